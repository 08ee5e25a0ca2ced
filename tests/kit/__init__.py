"""Shared by tests: tiny experiments, files to read, float64 versions of the networks."""
