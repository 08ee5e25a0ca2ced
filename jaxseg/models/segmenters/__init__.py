"""Segmenters: a head on a backbone."""
