r"""The source of a one-step posterior: what data and their noise leave open, drawn exactly by one regularised solve.

"SNaP: One-Step Posterior Sampling for Noisy Inverse Problems" (Shoushtari, Chandler, Shi, Kamilov 2026), section 3; its
limit without noise is the source of "NullFlow" (Shi et al. 2026, arXiv:2606.22696). For y = A x + n, n ~ N(0, s^2 I),

    x_0 = e + C A^T (A C A^T + s^2 I)^-1 (y - A e - n'),    e ~ N(0, C),  n' ~ N(0, s^2 I)

is a draw of the posterior under the prior N(0, C): the affine estimate of least square error for fields of covariance
C, and its error. The paper takes C = tau^2 I, where x_0 = e + A^T (A A^T + (s / tau)^2 I)^-1 (y - A e - n'), and as s
falls to zero A^+ y + (I - A^+ A) e. With the spectrum of the fields for C the source is nearer to the posterior, and
its spread is right on average before anything is learned.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor

NOISELESS_STD = 3e-2
"""Noise that exact data are first taken to have under a stationary C, in standard deviations of the field; then the
field is moved to the nearest one that agrees with them."""

SETTINGS: dict[str, Any] = {"max_iter": 60, "tol": 1e-4}
"""Of conjugate gradients, where the operator has no closed form. With `NOISELESS_STD` they leave the mean of inpainted
fields at its error; a residual of 1e-3 left it 7 dB worse where data are exact."""


class Solvable(Protocol):
    """An operator with a pseudo-inverse and proximal steps, as `physics.operators.least_squares` gives them to ours."""

    def A(self, x: Tensor) -> Tensor: ...

    @property
    def direct(self) -> bool: ...

    def A_dagger(self, y: Tensor) -> Tensor: ...

    def prox_l2(self, z: Tensor, y: Tensor, gamma: float) -> Tensor: ...

    def prox_stationary(self, z: Tensor, y: Tensor, power: Tensor, noise: float, **settings: Any) -> Tensor: ...


def adapted_source(
    operator: Solvable, y: Tensor, e: Tensor, n: Tensor, *, power: Tensor, noise: float, unit: float = 1.0
) -> Tensor:
    """x_0, shape `(batch, channel, *space)`.

    Arguments:
        operator: A.
        y: Data, shape `(batch, *data)` or `(1, *data)`, zero where nothing is observed.
        e: Standard normal fields, shape `(batch, channel, *space)`; zeros give the mean of the source.
        n: Standard normal numbers of the shape of the data, zero where nothing is observed; likewise.
        power: C: tau^2, a number without axes; or its eigenvalues in the orthonormal transform, shape `(*space)`.
        noise: s, of the data; 0 for exact data.
        unit: By what A multiplies fields to bring them into the units of the data.
    """
    power = power.to(e)
    y = y - noise * n
    if power.ndim == 0:
        e = power.sqrt() * e
        return operator.prox_l2(e, y, float(power) / noise**2) if noise else e + operator.A_dagger(y - operator.A(e))
    axes = tuple(range(-power.ndim, 0))
    e = torch.fft.ifftn(power.sqrt() * torch.fft.fftn(e, dim=axes), dim=axes).real
    if noise:
        return operator.prox_stationary(e, y, power, noise, **SETTINGS)
    x = operator.prox_stationary(e, y, power, unit * NOISELESS_STD * float(power.mean().sqrt()), **SETTINGS)
    return x + operator.A_dagger(y - operator.A(x))


def soft_null_projection(operator: Solvable, u: Tensor, *, noise: float) -> Tensor:
    """A velocity without what the data leave no room for: (I - A^T (A A^T + s I)^-1 A) u, and P u where they are exact.

    s, not s^2: it is then of the size of what is left open, as the network's own output should be. One to one for
    s > 0, so that nothing is lost. Where the operator has no closed form u stays as it is.
    """
    if not operator.direct:
        return u
    if noise == 0:
        return u - operator.A_dagger(operator.A(u))
    return operator.prox_l2(u, torch.zeros_like(operator.A(u)), 1 / noise)
