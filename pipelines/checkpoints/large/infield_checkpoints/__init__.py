"""The larger checkpoints of Infield."""
