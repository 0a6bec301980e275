"""Lightcones: files, observations, training data."""
