"""Checkpoints: Orbax behind checksums."""
