"""Benches of positron emission tomography."""
