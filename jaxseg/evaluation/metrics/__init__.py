"""Metrics: NumPy functions of counts and maps."""
