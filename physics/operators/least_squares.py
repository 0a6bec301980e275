"""Pseudo-inverse and regularised inverse of linear operators, under deepinv's names for them, in closed form where the
operator has one and by deepinv's conjugate gradients in the space of fields where it has not."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from infield.core._deepinv import LinearPhysics, conjugate_gradient

TOLERANCE, ITERATIONS = 1e-10, 500
"""Of conjugate gradients: relative residual in double precision, and when to stop."""


class LeastSquaresMixin(LinearPhysics):
    """Base of all linear operators.

    `row_power` is c where A A^T = c I on the data that are observed (sampling by a mask, at grid points, of Fourier
    coefficients), else None.
    """

    row_power: float | None = None

    @property
    def direct(self) -> bool:
        """Whether `A_dagger` and `prox_l2` are closed forms."""
        return self.row_power is not None

    def A_dagger(self, y: Tensor, **settings: Any) -> Tensor:
        """A^+ y, the field of least norm among those that fit the data best, shape `(batch, channel, *space)`."""
        if self.row_power is not None:
            return self.A_adjoint(y) / self.row_power
        return self._solve(self.A_adjoint(y), 0.0)

    def prox_l2(self, z: Tensor, y: Tensor, gamma: float, **settings: Any) -> Tensor:
        """The field x that minimises gamma |A x - y|^2 / 2 + |x - z|^2 / 2: z + A^T (A A^T + I / gamma)^-1 (y - A z).

        Arguments:
            z: Shape `(batch, channel, *space)`.
            y: Data, shape `(batch, *data)`.
            gamma: Weight of the data, positive.
            settings: Settings of deepinv's solver, which is not used.
        """
        right = self.A_adjoint(y - self.A(z))
        if self.row_power is not None:
            return z + right / (self.row_power + 1 / gamma)
        return z + self._solve(right, 1 / gamma)

    def prox_stationary(self, z: Tensor, y: Tensor, power: Tensor, noise: float, **settings: Any) -> Tensor:
        """The field x that minimises |A x - y|^2 / noise^2 + (x - z)^T C^-1 (x - z) for a stationary covariance C:
        z + C A^T (A C A^T + noise^2 I)^-1 (y - A z).

        Arguments:
            z: Shape `(batch, channel, *space)`.
            y: Data, shape `(batch, *data)`.
            power: Eigenvalues of C in the orthonormal transform of a channel, in the order of `torch.fft.fftn`, shape
                `(*space)`; the same for k and -k, and for all channels.
            noise: Standard deviation of the data's noise, positive.
            settings: Settings of deepinv's solver: `max_iter`, `tol` (relative to the right-hand side).
        """
        space, axes = power.shape, tuple(range(-power.ndim, 0))
        half = power[..., : space[-1] // 2 + 1].to(z)
        signs = torch.randint(0, 2, z.shape[1:], generator=torch.Generator().manual_seed(0)).to(z) * 2 - 1
        seen = self.A(signs[None]).square().sum() / signs.numel()  # mean of the diagonal of A^T A, roughly
        # in the coordinates of Q^1/2, Q^-1 = C^-1 + seen / noise^2, the system is near the identity
        share = 1 / (1 + seen * half / noise**2)
        root = (half * share).sqrt()

        def Q_root(x: Tensor) -> Tensor:
            return torch.fft.irfftn(root * torch.fft.rfftn(x, dim=axes), space, axes)

        def system(v: Tensor) -> Tensor:
            k = torch.fft.rfftn(v, dim=axes)
            x = torch.fft.irfftn(root * k, space, axes)
            back = torch.fft.rfftn(self.A_adjoint(self.A(x)), dim=axes)
            return torch.fft.irfftn(share * k + root * back / noise**2, space, axes)

        settings = {"max_iter": ITERATIONS, "tol": TOLERANCE if z.dtype == torch.float64 else 1e-4, **settings}
        right = Q_root(self.A_adjoint(y - self.A(z))) / noise**2
        return z + Q_root(conjugate_gradient(system, right, eps=1e-30, parallel_dim=[0], **settings))

    def _solve(self, right: Tensor, shift: float) -> Tensor:
        """(A^T A + shift I)^-1 of a field in the row space of A; the null space stays zero."""
        return conjugate_gradient(
            lambda x: self.A_adjoint(self.A(x)) + shift * x,
            right,
            max_iter=ITERATIONS,
            tol=TOLERANCE if right.dtype == torch.float64 else 1e-6,
            eps=1e-30,  # deepinv adds it to what it divides by
            parallel_dim=[0],
        )


def null_projection(operator: LinearPhysics, x: Tensor) -> Tensor:
    """(I - A^+ A) x, the part of a field in the null space of A, shape of x."""
    return x - operator.A_dagger(operator.A(x))
