r"""Posterior draws from exact data in one evaluation of a network that moves in the null space only.

"NullFlow" (Shi, Chandler, Park, Shoushtari, Kamilov 2026, arXiv:2606.22696), as restated in SNaP, section 2:

.. math:: x_0 = A^+ y + P e,   e \sim N(0, \tau^2 I),   P = I - A^+ A,   x_1 = x_0 + P u(x_0, 0, 1 | y),

so that A x_1 = y whatever the network gives. Noise in the data stays in the draws: for noisy data there is `snap`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from infield.core.errors import InfieldError
from infield.core.randomness import Randomness
from infield.physics.measurement import Measurement
from infield.physics.operators.least_squares import null_projection
from infield.posterior.inference.one_step import check_one_step
from infield.posterior.samplers.accepts import ONE_STEP, Accepts
from infield.posterior.samplers.base import Draws, Sampler

NOISELESS_THRESHOLD = 1e-3
"""Noise below this share of a field's standard deviation counts as none."""


@dataclass(frozen=True, kw_only=True)
class NullFlow(Sampler):
    """One step inside the fields that agree with the data exactly.

    Arguments:
        trust_data: Take noisy data for exact ones; the draws then keep their noise and are no posterior.
    """

    trust_data: bool = False
    method: ClassVar[str] = "null-flow"
    accepts: ClassVar[Accepts] = ONE_STEP

    def draw(self, prior: Any, measurement: Measurement, n: int, generator: Randomness) -> Draws:
        problem = check_one_step(self.method, prior, measurement, exact=True)
        if problem.noise > NOISELESS_THRESHOLD * problem.scale and not self.trust_data:
            raise InfieldError(
                where=f"sampler {self.method}",
                found=f"noise of standard deviation {problem.noise:.3g}",
                expected=f"at most {NOISELESS_THRESHOLD * problem.scale:.3g}: draws would keep it",
                remedy="use {sampler}",
                parameters={"sampler": "snap"},
            )
        A: Any = measurement.operator
        x_0, data_mean = problem.source(n, generator, noise=0.0)  # A^+ y + P eps
        u = problem.average_velocity(x_0, data_mean, generator, noise=0.0)
        return Draws(x_0 + null_projection(A, u))  # x_0 + P u(x_0, 0, 1 | y)
