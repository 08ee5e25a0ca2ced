"""Backbones: each returns all its stages."""
