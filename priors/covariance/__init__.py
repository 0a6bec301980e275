"""Covariances by their modes."""
