r"""Draws of a flow prior: the flow of a Gaussian with the prior's spectrum is taken exactly, what is left by two steps.

In the modes of the source let c be the variances of the source, d those of the prior and m its mean. The flow of
N(m, diag d) multiplies each mode of x_t - t m by the square root of p_t, so that

    z = (x - t m) / sqrt(p_t),    p_t = t^2 d + (1 - t)^2 c,                                                       (1)
    dz/dt = (v(x, t) - v_G(x, t)) / sqrt(p_t),    v_G = m + (t d - (1 - t) c) / p_t (x - t m),                     (2)

which vanishes for a Gaussian prior with independent modes: there one step is exact. (2) is integrated by the two-step
method of Adams and Bashforth (Hairer, Norsett & Wanner 1993, Solving Ordinary Differential Equations I, III.1),

    z_{k+1} = z_k + h (3 f_k - f_{k-1}) / 2,    z_1 = z_0 + h f_0,                                                 (3)

of second order, with one velocity call a step and none at t = 1. Steps are uniform: those of sin^2 more than double
the error. Modes without variance in the source or in the prior have p = 1, m = 0 and v_G = 0: they are integrated in x.
`infield bench steps` compares it with Heun's method, the explicit midpoint rule and DPM-Solver++.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from infield.priors.covariance.base import Covariance
from infield.priors.covariance.modes import Modes, Pixels


@dataclass(frozen=True)
class GaussianFlow:
    """The flow of independent Gaussian modes, equations (1) and (2).

    Arguments:
        modes: The basis.
        c, d: Variances of the source's and of the prior's modes, shapes that broadcast with `(channel, *space)`.
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
    def white(cls, ndim: int) -> GaussianFlow:
        """That of white noise to white noise, fields of `ndim` axes with that of channels: no basis is computed."""
        one = torch.ones((1,) * ndim)
        return cls(Pixels(), one, one, torch.zeros_like(one))

    def p(self, t: float) -> Tensor:
        """Variances of the modes of x_t."""
        p = t**2 * self.d + (1 - t) ** 2 * self.c
        return torch.where(p > 0, p, 1.0)

    def to_z(self, x: Tensor, t: float) -> Tensor:
        """z, equation (1), in modes; shape of x."""
        return ((self.modes.analyse(x) - t * self.m) / self.p(t).sqrt()).to(x.dtype)

    def to_x(self, z: Tensor, t: float) -> Tensor:
        """The inverse of `to_z`."""
        return self.modes.synthesise((t * self.m + self.p(t).sqrt() * z).to(z.dtype))

    def slope(self, z: Tensor, v: Tensor, t: float) -> Tensor:
        """dz/dt, equation (2), from z and v(x, t); shape of z."""
        p = self.p(t)
        gain = (t * self.d - (1 - t) * self.c) / p
        return ((self.modes.analyse(v) - self.m) / p.sqrt() - gain * z).to(z.dtype)


def integrate(velocity: Callable[[Tensor, float], Tensor], gaussian: GaussianFlow, x_0: Tensor, steps: int) -> Tensor:
    """x_1 from x_0 along dx/dt = v(x, t), equation (3); shape, precision and device of x_0.

    Arguments:
        velocity: v, of fields `(batch, channel, *space)` at one time 0 <= t < 1.
        gaussian: The flow that is taken exactly.
        x_0: Fields at t = 0.
        steps: Number of steps, and of velocity calls.
    """
    h = 1 / steps
    z, before = gaussian.to_z(x_0, 0.0), None
    for k in range(steps):
        t = k * h
        f = gaussian.slope(z, velocity(gaussian.to_x(z, t) if k else x_0, t), t)
        z = z + h * (f if before is None else 1.5 * f - 0.5 * before)  # (3)
        before = f
    return gaussian.to_x(z, 1.0)
