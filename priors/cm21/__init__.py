"""Priors and emulators of lightcones."""
