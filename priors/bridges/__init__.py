"""Bridges: the target is revealed little by little by counts, or by Gaussian increments, given a baseline."""
