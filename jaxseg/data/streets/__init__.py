"""The procedural renderer of street scenes."""
