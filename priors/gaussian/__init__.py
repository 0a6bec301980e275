"""Gaussian processes, kernels and mixtures in closed form."""

from infield.core.renamed import old_names

__getattr__ = old_names(__name__)
