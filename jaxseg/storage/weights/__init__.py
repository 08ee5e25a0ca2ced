"""Weights from files: reading without running pickled code, renaming, merging with a report."""
