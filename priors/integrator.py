r"""Draws of a flow prior: the flow of a Gaussian with its spectrum is taken exactly, what is left by Adams' method.

In the modes of the source let c be the variances of the source, d those of the prior and m its mean. The flow of
N(m, diag d) multiplies each mode of x_t - t m by the square root of p_t, so that

    z = (x - t m) / sqrt(p_t),    p_t = t^2 d + (1 - t)^2 c,                                                       (1)

moves by the difference of the velocity v(x, t) from that of the Gaussian, v_G. A mode is decided where its signal and
its noise are alike: early where d > c, and just before t = 1 where the prior is smooth and the source rough. With an
angle theta of each mode, which goes from 0 to pi / 2,

    theta_t = arctan(sqrt(d / c) t / (1 - t)),                                                                     (2)
    dz/dtheta = F = sqrt(p_t / (c d)) (v - v_G),    v_G = m + (t d - (1 - t) c) / p_t (x - t m),                   (3)

where c d / p_t is the variance of x_1 - x_0 given x_t under the Gaussian: F is of order one in all modes, at all times,
and vanishes for a Gaussian prior with independent modes. There one step is exact.

Times are t_k = t(k / n), where the mean of 2 theta / pi over modes whose sqrt(d / c) is log-uniform between the
smallest and the largest of the prior (kept within 1e-4 to 1e4) is 1 - (1 - s^2)^1.5 at s = k / n: each octave of a
power law has its share of the steps. Let P_k^q be the polynomial in s through the last q of F_0 ... F_k. From t_k the
explicit method of Adams predicts z_{k+1}, at which the velocity is called, and the implicit one then corrects z_{k+1}
with what it returned, without a call of its own (Hairer, Norsett & Wanner 1993, Solving Ordinary Differential Equations
I, III.1, as PEC; for flows Zhao et al. 2023, "UniPC", arXiv 2302.04867), each mode in its own angle:

    predicted z_{k+1} = z_k + int_{s_k}^{s_{k+1}} P_k^q dtheta,    q = 2, from k = 4 on 3,                         (4)
    z_{k+1} = z_k + int_{s_k}^{s_{k+1}} P_{k+1}^3 dtheta.                                                          (5)

The order is three. The last step, to t = 1, is predicted alone. At t = 0 the velocity is E[x_1] - x_0, for a known
mean without a call. The exponents 2 and 1.5 were chosen on two mixtures and two networks (`infield bench steps`, which
compares Heun's method, the midpoint rule and DPM-Solver++). Modes without variance in the source or in the prior have
p = 1, m = 0, v_G = 0 and theta = t: they are integrated in x.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from torch import Tensor

from infield.priors.covariance.base import Covariance
from infield.priors.covariance.modes import Modes, Pixels

ROUGHEST, SMOOTHEST = 1e-4, 1e4
"""Of sqrt(d / c): modes beyond have no steps of their own."""

_ROOTS, _WEIGHTS = np.polynomial.legendre.leggauss(8)
NODES, WEIGHTS = torch.as_tensor((1 + _ROOTS) / 2), torch.as_tensor(_WEIGHTS / 2)
"""Of the integral over a step, Gauss and Legendre's on (0, 1)."""

_U = torch.stack([WEIGHTS, 2 * NODES * WEIGHTS])
MOMENTS = torch.cat([torch.tensor([[-1.0], [0], [0]]), torch.cat([0 * _U[:1], -_U]), torch.ones(3, 1)], dim=1)
"""Integrals of 1, u and u^2 over theta by parts, of theta at the start of a step, at the nodes inside it and at its
end."""


@dataclass(frozen=True)
class GaussianFlow:
    """The flow of independent Gaussian modes, equations (1) to (3).

    Arguments:
        modes: The basis.
        c, d: Variances of the source's and of the prior's modes, shapes that broadcast with `(channel, *space)`; both
            0 where one is.
        m: Mean of the prior in the modes, such a shape.
    """

    modes: Modes
    c: Tensor
    d: Tensor
    m: Tensor

    @classmethod
    def of(cls, source: Covariance, covariance: Covariance, mean: Tensor) -> GaussianFlow:
        """That with the variances of a prior's modes, and its mean `(channel, *space)`."""
        c, d = source.diagonal, covariance.truncated(0).diagonal
        m = source.modes.analyse(mean.to(c))
        varies = (c > 0) & (d > 0)
        return cls(source.modes, torch.where(varies, c, 0), torch.where(varies, d, 0), torch.where(varies, m, 0))

    @classmethod
    def white(cls, x: Tensor) -> GaussianFlow:
        """That of white noise to white noise, for fields such as x; no basis is computed."""
        one = torch.ones((1,) * (x.ndim - 1), dtype=torch.float64, device=x.device)
        return cls(Pixels(), one, one, torch.zeros_like(one))

    def p(self, t: float) -> Tensor:
        """Variances of the modes of x_t."""
        p = t**2 * self.d + (1 - t) ** 2 * self.c
        return torch.where(p > 0, p, 1.0)

    def theta(self, t: Tensor) -> Tensor:
        """Angles of the modes, equation (2), at times of any shape, in front of that of the modes."""
        t = t.to(self.c).reshape(*t.shape, *[1] * self.c.ndim)
        c, d, _ = self._roots
        return torch.where(self.c > 0, torch.atan2(t * d, (1 - t) * c), t)

    def to_z(self, x: Tensor, t: float) -> Tensor:
        """z, equation (1), in modes; shape of x."""
        return ((self.modes.analyse(x) - t * self.m) / self.p(t).sqrt()).to(x.dtype)

    def to_x(self, z: Tensor, t: float) -> Tensor:
        """The inverse of `to_z`."""
        return self.modes.synthesise((t * self.m + self.p(t).sqrt() * z).to(z.dtype))

    def slope(self, z: Tensor, v: Tensor, t: float) -> Tensor:
        """F, equation (3), from z and v(x, t); shape of z."""
        root = self._roots[2]
        gain = (t * self.d - (1 - t) * self.c) / root
        return (self.p(t).sqrt() / root * (self.modes.analyse(v) - self.m) - gain * z).to(z.dtype)

    def times(self, steps: int) -> list[float]:
        """0 = t_0 < ... < t_steps = 1."""
        return times_between(steps, *self._extremes)[:, 0].tolist()

    def moments(self, steps: int, k: int) -> Tensor:
        """Integrals of 1, u and u^2 over theta in step k, where u = steps s - k is in (0, 1); shape `(3, *modes)`."""
        t = times_between(steps, *self._extremes)
        theta = self.theta(torch.cat([t[k], t[k + 1, :1]]))
        return torch.tensordot(MOMENTS.to(theta), theta, dims=1)

    @cached_property
    def _roots(self) -> tuple[Tensor, Tensor, Tensor]:
        """Square roots of c, d and c d; the last is 1 where nothing varies."""
        return self.c.sqrt(), self.d.sqrt(), torch.where(self.c > 0, (self.c * self.d).sqrt(), 1.0)

    @cached_property
    def _extremes(self) -> tuple[float, float]:
        """The least and the largest sqrt(d / c)."""
        ratio = (self.d / self.c)[self.c > 0].sqrt().clamp(ROUGHEST, SMOOTHEST)
        return (float(ratio.min()), float(ratio.max())) if len(ratio) else (1.0, 1.0)


def integrate(
    velocity: Callable[[Tensor, float], Tensor],
    gaussian: GaussianFlow,
    x_0: Tensor,
    steps: int,
    v_0: Tensor | None = None,
) -> Tensor:
    """x_1 from x_0 along dx/dt = v(x, t), equations (4) and (5); shape, precision and device of x_0.

    Arguments:
        velocity: v, of fields `(batch, channel, *space)` at one time 0 <= t < 1.
        gaussian: The flow that is taken exactly.
        x_0: Fields at t = 0.
        steps: Number of velocity calls.
        v_0: v(x_0, 0), shape of x_0, where it is known; it then is not called for, and there is one step more.
    """
    n = steps if v_0 is None else steps + 1
    z = corrected = gaussian.to_z(x_0, 0.0)
    slopes: list[Tensor] = []
    moments = torch.empty(0)
    for k, t in enumerate(gaussian.times(n)[:-1]):
        if k == 0:
            v = velocity(x_0, 0.0) if v_0 is None else v_0
        else:
            v = velocity(gaussian.to_x(z, t), t)
        slopes = [gaussian.slope(z, v, t), *slopes[:2]]
        if k > 0:
            corrected = _moved(corrected, slopes, moments, 1)  # (5)
        moments = gaussian.moments(n, k)
        z = _moved(corrected, slopes[: 2 if k < 4 else 3], moments, 0)  # (4)
    return gaussian.to_x(z, 1.0)


@lru_cache(maxsize=64)
def times_between(steps: int, low: float, high: float) -> Tensor:
    """Times at the start of each step and at the `NODES` inside it, the end t = 1 in a row of its own, shape
    `(steps + 1, 1 + nodes)`, for sqrt(d / c) between low and high.

    The mean angle grows with t / (1 - t), whose logarithm is found by bisection.
    """
    s = (torch.arange(steps + 1, dtype=torch.float64)[:, None] + torch.cat([torch.zeros(1), NODES])) / steps
    share = 1 - (1 - s.clamp_max(1).square()) ** 1.5
    ratio = torch.logspace(math.log10(low), math.log10(high), 33, dtype=torch.float64)
    below, above = torch.full_like(s, -40.0), torch.full_like(s, 40.0)
    for _ in range(64):
        middle = (below + above) / 2
        early = (ratio * middle.exp()[..., None]).atan().mean(-1) * 2 / math.pi < share
        below, above = torch.where(early, middle, below), torch.where(early, above, middle)
    t = torch.sigmoid((below + above) / 2)
    return torch.where(s <= 0, 0.0, torch.where(s >= 1, 1.0, t))


def _moved(z: Tensor, slopes: list[Tensor], moments: Tensor, newest: int) -> Tensor:
    """z plus the integral over a step of the polynomial through slopes at u = newest, newest - 1, ..."""
    coefficients = _lagrange(len(slopes), newest).to(moments)
    for weight, F in zip(torch.tensordot(coefficients, moments[: len(slopes)], dims=1), slopes, strict=True):
        z = z + weight.to(z.dtype) * F
    return z


@lru_cache(maxsize=8)
def _lagrange(count: int, newest: int) -> Tensor:
    """Coefficients of 1, u, ... of the polynomials that are 1 at one of so many nodes, shape `(count, count)`."""
    powers = torch.arange(count, dtype=torch.float64)
    return torch.linalg.inv((newest - powers) ** powers[:, None])
