"""Random fields and processes to draw training data from."""
