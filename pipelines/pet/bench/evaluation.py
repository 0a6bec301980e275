"""Case of `infield evaluate`: a rate from counts of emission tomography."""

from __future__ import annotations

from infield.pipelines.bench.evaluation import Case
from infield.pipelines.pet.bench.cases import draw_case, rate_prior

SIDE, ANGLES, COUNTS = 12, 16, 20_000.0


def counts() -> Case:
    """The logarithm of a rate on 12 x 12 points from 20,000 counts in 16 angles, a fifth of them background."""
    measurement = draw_case(SIDE, ANGLES, COUNTS, 0).measurement
    return Case(rate_prior(SIDE), measurement, simulations=32)
