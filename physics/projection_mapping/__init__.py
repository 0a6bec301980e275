"""Projection mapping: what projectors can show on a surface."""
