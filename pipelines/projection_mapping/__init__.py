"""Commands of projection mapping."""
