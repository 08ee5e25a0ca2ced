"""Files: a run's config and logs, checkpoints, weight files."""
