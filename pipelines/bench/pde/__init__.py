"""Bench of inverse problems with partial differential equations."""
