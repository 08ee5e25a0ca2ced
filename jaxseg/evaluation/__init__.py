"""Evaluation: predictions against labels, metrics, and choosing a snapshot without labels."""
