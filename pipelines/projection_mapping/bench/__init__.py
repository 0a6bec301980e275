"""Bench of projection mapping."""
