"""Gaussian processes, kernels and mixtures in closed form."""
