"""Data on the host: builders write records once; the pipeline reads them as batches."""
