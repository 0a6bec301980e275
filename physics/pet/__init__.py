"""Operators of emission and transmission tomography."""
