"""Bench of the 21 cm domain."""
