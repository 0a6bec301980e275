r"""Posterior draws from noisy data in one evaluation of a network.

"SNaP: One-Step Posterior Sampling for Noisy Inverse Problems" (Shoushtari, Chandler, Shi, Kamilov 2026). For every tau,
x_0 -> x_0 + u(x_0, 0, 1 | y) takes the source N(m_y, tau^2 W) of the data to the posterior, with the exact average
velocity u of the straight path between the two, conditioned on the data (theorem 1); `priors.training.common.mean_flow`
trains it.

| paper | here |
| --- | --- |
| q_tau(x given y) = N(m_y, tau^2 W) | `OneStepProblem.source` |
| u(x, 0, 1 given y) | `OneStepProblem.average_velocity` |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from infield.core.randomness import Randomness
from infield.physics.measurement import Measurement
from infield.posterior.inference.one_step import check_one_step
from infield.posterior.samplers.accepts import ONE_STEP, Accepts
from infield.posterior.samplers.base import Draws, Sampler


@dataclass(frozen=True, kw_only=True)
class SNaP(Sampler):
    """One step from a source that the data and their noise adapt to; for Gaussian noise of one variance."""

    method: ClassVar[str] = "snap"
    accepts: ClassVar[Accepts] = ONE_STEP

    def draw(self, prior: Any, measurement: Measurement, n: int, generator: Randomness) -> Draws:
        problem = check_one_step(self.method, prior, measurement, exact=False)
        s = problem.noise
        x_0, m_y = problem.source(n, generator, noise=s)  # eps + A^T (A A^T + l I)^-1 (y - A eps - n')
        return Draws(x_0 + problem.average_velocity(x_0, m_y, generator, noise=s))  # x + u(x, 0, 1 | y)
