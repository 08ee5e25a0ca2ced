"""Losses as plain functions: arrays in, un-reduced arrays out."""
