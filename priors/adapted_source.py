r"""The source of a one-step posterior: what data and their noise leave open, drawn exactly by one regularised solve.

"SNaP: One-Step Posterior Sampling for Noisy Inverse Problems" (Shoushtari, Chandler, Shi, Kamilov 2026), section 3; its
limit without noise is the source of "NullFlow" (Shi et al. 2026, arXiv:2606.22696). For y = A x + n, n ~ N(0, s^2 I),

    x_0 = e + A^T (A A^T + l I)^-1 (y - A e - n'),    e ~ N(0, tau^2 I),  n' ~ N(0, s^2 I),  l = s^2 / tau^2

is a draw of N(A^T (A A^T + l I)^-1 y, tau^2 W), the posterior under the prior N(0, tau^2 I), with the eigenvalues
s^2 / (s^2 + tau^2 s_i^2) of W for the singular values s_i of A. As s falls to zero, x_0 = A^+ y + (I - A^+ A) e.
"""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class Solvable(Protocol):
    """An operator with a pseudo-inverse and a proximal step, as deepinv's and ours have them."""

    def A(self, x: Tensor) -> Tensor: ...

    def A_dagger(self, y: Tensor) -> Tensor: ...

    def prox_l2(self, z: Tensor, y: Tensor, gamma: float) -> Tensor: ...


def adapted_source(operator: Solvable, y: Tensor, e: Tensor, n: Tensor, *, tau: float, noise: float) -> Tensor:
    """x_0, shape `(batch, channel, *space)`.

    Arguments:
        operator: A.
        y: Data, shape `(batch, *data)` or `(1, *data)`, zero where nothing is observed.
        e: Standard normal fields, shape `(batch, channel, *space)`; zeros give the mean of the source.
        n: Standard normal numbers of the shape of the data, zero where nothing is observed; likewise.
        tau: Standard deviation of the prior behind the source.
        noise: s, of the data; 0 for exact data.
    """
    e = tau * e
    if noise == 0:
        return e + operator.A_dagger(y - operator.A(e))
    return operator.prox_l2(e, y - noise * n, tau**2 / noise**2)
