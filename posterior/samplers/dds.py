r"""DDS for volumes: a prior of slices, conjugate gradients on its estimate, total variation across slices.

Chung, Lee & Ye 2024, "Decomposed Diffusion Sampler for Accelerating Large-Scale Inverse Problems" (arXiv 2303.05754),
in the form of the authors' code for volumes, which shares the variables of ADMM as DiffusionMBIR does
(`posterior.inference.total_variation`).

| paper, code | here |
| --- | --- |
| x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps, t downwards | x_t = t x_1 + (1 - t) x_0, t upwards |
| x_0 hat by Tweedie's formula | E[x_1 | x_t] = x_t + (1 - t) v |
| eps_theta | x_t - t v, an estimate of x_0, coloured as the source |
| eta, CG steps M, lambda, rho | `eta`, `steps_of_cg`, `tv`, `penalty` |
| gamma of noisy data, gamma |y - A x|^2 + |x - x_0 hat|^2 | v_t / sigma^2; theirs is constant, and none for volumes |

Beyond the paper: the boundary along z, data weighted by their noise, and for volumes too the anchor at E[x_1 | x_t],
with the variance that Song et al. 2023 (PiGDM) give the estimate of a field of unit variance,

    v_t = `spread`^2 (1 - t)^2 / (t^2 + (1 - t)^2).

Without it noisy data and the total variation have the last word, and the prior none, where t is near 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from infield.core.errors import InfieldError
from infield.core.randomness import Randomness, normal
from infield.physics.measurement import Measurement
from infield.posterior.inference.total_variation import CAVEAT, across_slices
from infield.posterior.samplers.base import Draws, Sampler
from infield.priors.base import FlowPrior


@dataclass(frozen=True, kw_only=True)
class DDS(Sampler):
    """DDS on volumes, for linear operators and Gaussian noise, with a prior of slices (`priors.flows.slices`).

    Arguments:
        levels: K, velocity evaluations of each slice.
        steps_of_cg: M, steps of conjugate gradients a level.
        eta: Share of fresh noise, 0 to 1.
        tv: lambda, of the total variation across slices; 0 leaves each slice to itself.
        penalty: rho of ADMM.
        spread: Standard deviation of the field, in standardised units, for the anchor at the prior's estimate; None for
            no anchor.
    """

    levels: int = 50
    steps_of_cg: int = 5
    eta: float = 0.85
    tv: float = 1.0
    penalty: float = 10.0
    spread: float | None = 1.0

    method: ClassVar[str] = "dds"
    caveat: ClassVar[str | None] = CAVEAT

    def __post_init__(self) -> None:
        if self.levels < 1 or self.steps_of_cg < 1 or not 0 <= self.eta <= 1:
            raise InfieldError(
                where="sampler dds",
                found=f"levels={self.levels}, steps_of_cg={self.steps_of_cg}, eta={self.eta}",
                expected="at least one level and step, and eta from 0 to 1",
            )
        if not self.tv >= 0 or not self.penalty > 0 or not (self.spread is None or self.spread > 0):
            raise InfieldError(
                where="sampler dds",
                found=f"tv={self.tv}, penalty={self.penalty}, spread={self.spread}",
                expected="tv of at least 0, and penalty and spread above 0",
            )

    @property
    def block(self) -> int:
        """One volume at a time."""
        return 1

    def draw(self, prior: FlowPrior, measurement: Measurement, n: int, generator: Randomness) -> Draws:
        K, C_0 = self.levels, prior.source
        volume = across_slices(self.method, prior, measurement, self.tv, self.penalty)

        def source() -> Tensor:
            white = normal(generator, n, C_0.event_shape, C_0.diagonal.device)
            return C_0.colour(white)

        x_t = source()
        for k in range(K):
            t, t_next = k / K, (k + 1) / K
            v = prior.velocity(x_t, t)
            x_1, x_0 = x_t + (1 - t) * v, x_t - t * v  # Tweedie's formula, and the noise that it implies
            if self.spread is None:
                x_1 = volume.sweep(x_1, self.steps_of_cg)
            else:
                v_t = self.spread**2 * (1 - t) ** 2 / (t**2 + (1 - t) ** 2)
                x_1 = volume.sweep(x_1, self.steps_of_cg, anchor=x_1, variance=v_t)
            if t_next < 1:  # DDIM
                x_t = t_next * x_1 + (1 - t_next) * (self.eta * source() + math.sqrt(1 - self.eta**2) * x_0)
        return Draws(x_1)
