"""What the builders share: raw files to records."""
