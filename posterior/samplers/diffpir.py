r"""DiffPIR for any data: the prior's estimate, moved towards the data, along a flow.

Zhu, Zhang, Liang, Cao, Wen, Timofte & Van Gool 2023, "Denoising Diffusion Models for Plug-and-Play Image Restoration"
(arXiv 2305.08995), algorithm 1.

| paper | here |
| --- | --- |
| x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) eps, t downwards | x_t = t x_1 + (1 - t) x_0, t upwards |
| x_0^(t), from the score | m = E[x_1 | x_t] |
| x^_0 = argmin |y - H x|^2 + rho_t |x - x_0^(t)|^2, eq. 12 | argmin of -2 log p(y | x) + `anchor` |x - m|^2 in K_t^-1 |
| rho_t = lambda sigma_n^2 / sigma_t^2 | `anchor` over K_t, the covariance that the flow implies for a Gaussian prior |
| zeta | `zeta`, share of fresh noise |

Beyond the paper: K_t in place of one number, a source with a spectrum, and a likelihood of any form: the minimum is
sought by Gauss-Newton steps whose linear systems conjugate gradients solve, each sample by itself. K_t of t near 1 is
small, so that the last estimates are the prior's in what the data leave open.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import Tensor

from infield.core._deepinv import LinearPhysics
from infield.core.errors import InfieldError
from infield.core.randomness import Randomness, normal
from infield.physics.measurement import Measurement
from infield.physics.operators.jacobian import jacobian_product
from infield.posterior.inference.langevin import check_finite
from infield.posterior.inference.likelihood import information, only_observed, value_and_gradient
from infield.posterior.inference.whitening import Whitening
from infield.posterior.samplers.base import Draws, Sampler
from infield.posterior.samplers.faps import level
from infield.priors.base import FlowPrior, denoise
from infield.priors.gaussian.bridge import Bridge

HALVINGS = 4
"""How often a Gauss-Newton step that does not lower the objective is halved; then it is not taken."""


@dataclass(frozen=True, kw_only=True)
class DiffPIR(Sampler):
    """DiffPIR, for any differentiable operator and any noise model.

    Arguments:
        levels: K, velocity evaluations of a sample.
        newton_steps: Gauss-Newton steps of a level.
        steps_of_cg: Steps of conjugate gradients of each.
        anchor: lambda, how strongly the prior's estimate holds.
        zeta: Share of fresh noise, 0 to 1; 0 follows the flow.
    """

    levels: int = 40
    newton_steps: int = 2
    steps_of_cg: int = 8
    anchor: float = 1.0
    zeta: float = 0.0

    method: ClassVar[str] = "diffpir"
    caveat: ClassVar[str | None] = (
        "diffpir guides draws of the prior to the data: they are no draws of the posterior, and their spread is no "
        "uncertainty"
    )

    def __post_init__(self) -> None:
        if min(self.levels, self.newton_steps, self.steps_of_cg) < 1 or not self.anchor > 0 or not 0 <= self.zeta <= 1:
            raise InfieldError(
                where="sampler diffpir",
                found=f"levels={self.levels}, newton_steps={self.newton_steps}, steps_of_cg={self.steps_of_cg}, "
                f"anchor={self.anchor}, zeta={self.zeta}",
                expected="at least one level and step, an anchor above 0, and zeta from 0 to 1",
            )

    def draw(self, prior: FlowPrior, measurement: Measurement, n: int, generator: Randomness) -> Draws:
        K, C, C_0 = self.levels, prior.covariance, prior.source

        def source() -> Tensor:
            return C_0.colour(normal(generator, n, C_0.event_shape, C_0.diagonal.device))

        x_t = source()
        for k in range(K):
            t, t_next = k / K, (k + 1) / K
            m = denoise(prior, x_t, t)
            check_finite(m, generator, f"in the prior's estimate, level {k} of {K}")
            with level(k, K):
                x_1 = self._towards_data(measurement, m, Whitening(Bridge(C, C_0, t).conditional()))  # eq. 12
            eps = (x_t - t * x_1) / (1 - t)
            x_t = t_next * x_1 + (1 - t_next) * (math.sqrt(1 - self.zeta) * eps + math.sqrt(self.zeta) * source())
        return Draws(x_1)

    def _towards_data(self, measurement: Measurement, m: Tensor, S: Whitening) -> Tensor:
        """argmin of f(w) = `anchor` |w|^2 / 2 - log p(y | m + S w), from w = 0."""
        w = m.new_zeros((len(m), m[0].numel()))
        u = m
        value, slope = value_and_gradient(measurement, u)
        for _ in range(self.newton_steps):
            curvature = _Curvature(measurement, u, S, self.anchor)
            d = curvature.solve(S.transpose(slope) - self.anchor * w, self.steps_of_cg)
            best = value - 0.5 * self.anchor * w.square().sum(1)
            length = torch.ones_like(value)
            for _ in range(HALVINGS + 1):
                trial = w + length[:, None] * d
                u_trial = m + S.colour(trial)
                found, slope_there = value_and_gradient(measurement, u_trial)
                lower = found - 0.5 * self.anchor * trial.square().sum(1) >= best  # False where it is NaN
                if bool(lower.all()):
                    break
                length = torch.where(lower, length, length / 2)
            else:
                lower = lower & (length > 0)
            taken, of_field = lower[:, None], lower.reshape(-1, *[1] * (u.ndim - 1))
            w, u = torch.where(taken, trial, w), torch.where(of_field, u_trial, u)
            value, slope = torch.where(lower, found, value), torch.where(of_field, slope_there, slope)
        return u


@dataclass(frozen=True)
class _Curvature:
    """anchor + S^T J^T W J S at one field for each sample."""

    measurement: Measurement
    at: Tensor
    whitening: Whitening
    anchor: float

    def apply(self, w: Tensor) -> Tensor:
        operator = self.measurement.operator
        v = information(self.measurement, self._data, jacobian_product(operator, self.at, self.whitening.colour(w)))
        v = only_observed(self.measurement, v)
        back = operator.A_adjoint(v) if isinstance(operator, LinearPhysics) else operator.A_vjp(self.at, v)
        return self.anchor * w + self.whitening.transpose(back)

    @cached_property
    def _data(self) -> Tensor:
        return self.measurement.operator.A(self.at)

    def solve(self, b: Tensor, steps: int) -> Tensor:
        """Conjugate gradients from 0, each row by itself; a row that is solved stays."""
        x, r = torch.zeros_like(b), b
        p, rr = r, r.square().sum(1, keepdim=True)
        for _ in range(steps):
            Ap = self.apply(p)
            pAp = (p * Ap).sum(1, keepdim=True)
            alpha = torch.where(pAp > 0, rr / pAp.clamp_min(1e-300), 0.0)
            x, r = x + alpha * p, r - alpha * Ap
            rr, before = r.square().sum(1, keepdim=True), rr
            p = r + torch.where(before > 0, rr / before.clamp_min(1e-300), 0.0) * p
        return x
