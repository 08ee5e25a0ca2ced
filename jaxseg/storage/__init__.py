"""What lies in a folder: a run's config and logs, checkpoints, weight files."""
