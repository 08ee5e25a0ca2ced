"""The web page, `--mode=web`: run folders, training, predictions and data in a browser."""
