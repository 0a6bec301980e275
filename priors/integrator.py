r"""Draws of a flow prior: the flow of a Gaussian with its spectrum is taken exactly, what is left by Adams' method.

In the modes of the source let c be the variances of the source, d those of the prior and m its mean. The flow of
N(m, diag d) multiplies each mode of x_t - t m by the square root of p_t, so that

    z = (x - t m) / sqrt(p_t),    p_t = t^2 d + (1 - t)^2 c,                                                       (1)
    dz/dt = f = (v(x, t) - v_G(x, t)) / sqrt(p_t),    v_G = m + (t d - (1 - t) c) / p_t (x - t m),                 (2)

which vanishes for a Gaussian prior with independent modes: there one step is exact. Let P_k^q be the polynomial in t
through the last q of f_0 ... f_k. From t_k the explicit method of Adams predicts z_{k+1}, at which the velocity is
called, and the implicit one then corrects z_{k+1} with what it returned, without a call of its own (Hairer, Norsett &
Wanner 1993, Solving Ordinary Differential Equations I, III.1, as PEC; for flows Zhao et al. 2023, "UniPC", arXiv
2302.04867):

    predicted z_{k+1} = z_k + int_{t_k}^{t_{k+1}} P_k^q dt,    q = 2, from k = 4 on 3,                             (3)
    z_{k+1} = z_k + int_{t_k}^{t_{k+1}} P_{k+1}^3 dt.                                                              (4)

The order is three. The last step, to t = 1, is predicted alone. At t = 0 the velocity is E[x_1] - x_0, for a known
mean without a call. Times t_k = 1 - (1 - (k / n)^1.5)^1.6 are closer together at both ends: of priors with few small
scales those decide late, and of discontinuous fields the phases decide early. The two exponents were chosen on two
mixtures and two networks (`infield bench steps`, which compares Heun's method, the midpoint rule and DPM-Solver++).
Modes without variance in the source or in the prior have p = 1, m = 0 and v_G = 0: they are integrated in x.
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


def integrate(
    velocity: Callable[[Tensor, float], Tensor],
    gaussian: GaussianFlow,
    x_0: Tensor,
    steps: int,
    v_0: Tensor | None = None,
) -> Tensor:
    """x_1 from x_0 along dx/dt = v(x, t), equations (3) and (4); shape, precision and device of x_0.

    Arguments:
        velocity: v, of fields `(batch, channel, *space)` at one time 0 <= t < 1.
        gaussian: The flow that is taken exactly.
        x_0: Fields at t = 0.
        steps: Number of velocity calls.
        v_0: v(x_0, 0), shape of x_0, where it is known; it then is not called for, and there is one step more.
    """
    t = times(steps if v_0 is None else steps + 1)
    z = gaussian.to_z(x_0, 0.0)
    corrected = z
    slopes: list[tuple[float, Tensor]] = []
    for k in range(len(t) - 1):
        if k == 0:
            v = velocity(x_0, 0.0) if v_0 is None else v_0
        else:
            v = velocity(gaussian.to_x(z, t[k]), t[k])
        slopes = [(t[k], gaussian.slope(z, v, t[k])), *slopes[:2]]
        if k > 0:
            corrected = _moved(corrected, slopes, t[k - 1], t[k])  # (4)
        z = _moved(corrected, slopes[: 2 if k < 4 else 3], t[k], t[k + 1])  # (3)
    return gaussian.to_x(z, 1.0)


def times(steps: int) -> list[float]:
    """0 = t_0 < ... < t_steps = 1, closer together at both ends."""
    return [1 - (1 - (k / steps) ** 1.5) ** 1.6 for k in range(steps)] + [1.0]


def _moved(z: Tensor, slopes: list[tuple[float, Tensor]], start: float, end: float) -> Tensor:
    """z plus the integral from start to end of the polynomial through some (time, slope)."""
    nodes = torch.tensor([(at - start) / (end - start) for at, _ in slopes], dtype=torch.float64)
    powers = torch.arange(len(slopes), dtype=torch.float64)
    weights = torch.linalg.solve(nodes ** powers[:, None], 1 / (powers + 1))
    for weight, (_, f) in zip(weights.tolist(), slopes, strict=True):
        z = z + (end - start) * weight * f
    return z
