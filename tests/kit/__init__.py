"""What tests share: tiny experiments, files to read, float64 twins of the networks."""
