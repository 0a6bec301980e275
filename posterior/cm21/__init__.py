"""Posteriors and statistics of lightcones."""
