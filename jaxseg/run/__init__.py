"""One file for each mode of the launcher."""
