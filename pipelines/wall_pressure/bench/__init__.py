"""Bench of the wall-pressure domain."""
