"""Synthetic wall pressure."""
