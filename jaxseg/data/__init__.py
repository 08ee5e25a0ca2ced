"""Data: builders prepare records once, the pipeline makes batches of them, feed sends those on."""
