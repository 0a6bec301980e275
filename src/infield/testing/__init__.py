"""Batteries of checks for operators, noise models, priors and samplers: Infield's own, and those that others add.

    import infield
    infield.testing.check_operator(A)
    infield.testing.check_noise_model(noise, z)
    infield.testing.check_prior(prior)
    infield.testing.check_sampler(sampler)

Each proves mathematics, not shapes alone: adjoints, derivatives, identities of densities, exact posteriors by z-scores.
A check that does not hold raises `CheckFailed`, an `AssertionError` of one line that names it.
"""

from __future__ import annotations

from infield.testing.failure import CheckFailed
from infield.testing.noise import check_noise_model
from infield.testing.operators import check_operator
from infield.testing.priors import check_prior
from infield.testing.samplers import check_sampler

__all__ = ["CheckFailed", "check_noise_model", "check_operator", "check_prior", "check_sampler"]
