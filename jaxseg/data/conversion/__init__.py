"""Shared by the builders: converts raw files to records."""
