"""One module per data set, found by its name, with a TFDS `Builder` that writes ArrayRecord."""
