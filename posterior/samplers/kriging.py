r"""Kriging: draws of a field given point data, under the stationary law that was fitted to them.

The posterior of a Gaussian field given data at points is Gaussian in closed form (Krige 1951; Matheron 1963;
Rasmussen & Williams 2006, eqs. 2.23 to 2.42). Data act at their own positions, trend and hyperparameters with their
uncertainty; see `posterior.kriging`.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from infield.core.randomness import Randomness
from infield.physics.measurement import Measurement
from infield.posterior.kriging.fitted import FittedField
from infield.posterior.samplers.accepts import Accepts
from infield.posterior.samplers.base import Draws, Posterior, Sampler


@dataclass(frozen=True)
class Kriging(Sampler):
    """The closed form for point data under a fitted law; the default where no prior is named."""

    method: ClassVar[str] = "kriging"
    accepts: ClassVar[Accepts] = Accepts(
        lambda prior: isinstance(prior, FittedField),
        "the law that is fitted to point data",
        remedy="leave out {prior}, or use {sampler}",
        parameters={"prior": None, "sampler": "faps"},
    )

    def __call__(self, prior: Any, measurement: Measurement, n: int, generator: Randomness) -> Posterior:
        """Draw n samples; the prior is a `FittedField` of this very measurement.

        Raises:
            InfieldError: If it is another prior.
        """
        self.accepts.check(self.method, prior)
        start = time.perf_counter()
        with torch.no_grad():
            samples = prior.draw(n, generator)
        cost = {"velocity_calls": 0.0, "operator_calls": 0.0, "seconds": time.perf_counter() - start}
        return Posterior(samples, cost, {})

    def draw(self, prior: Any, measurement: Measurement, n: int, generator: Randomness) -> Draws:
        """Not used: the closed form draws in units of the field."""
        raise NotImplementedError
