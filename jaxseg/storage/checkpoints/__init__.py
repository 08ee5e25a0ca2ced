"""Checkpoints, written by Orbax and verified by checksums."""
