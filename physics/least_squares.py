"""Pseudo-inverse and regularised inverse of linear operators, under deepinv's names for them, in closed form where the
operator has one and by deepinv's conjugate gradients in the space of fields where it has not."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from infield import import_torchvision_first

import_torchvision_first()
from deepinv.optim.linear import conjugate_gradient  # noqa: E402
from deepinv.physics import LinearPhysics  # noqa: E402

TOLERANCE, ITERATIONS = 1e-10, 500
"""Of conjugate gradients: relative residual in double precision, and when to stop."""


class LeastSquares(LinearPhysics):
    """What every linear operator of ours inherits.

    `row_power` is c where A A^T = c I on the data that are observed (sampling by a mask, at grid points, of Fourier
    coefficients), else None.
    """

    row_power: float | None = None

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
            settings: Of deepinv's solver, which is not used.
        """
        right = self.A_adjoint(y - self.A(z))
        if self.row_power is not None:
            return z + right / (self.row_power + 1 / gamma)
        return z + self._solve(right, 1 / gamma)

    def _solve(self, right: Tensor, shift: float) -> Tensor:
        """(A^T A + shift I)^-1 of a field that the operator sees; what it does not see stays zero."""
        return conjugate_gradient(
            lambda x: self.A_adjoint(self.A(x)) + shift * x,
            right,
            max_iter=ITERATIONS,
            tol=TOLERANCE if right.dtype == torch.float64 else 1e-6,
            eps=1e-30,  # deepinv adds it to what it divides by
            parallel_dim=[0],
        )


def null_projection(operator: LinearPhysics, x: Tensor) -> Tensor:
    """(I - A^+ A) x, the part of a field that the operator does not see, shape of x."""
    return x - operator.A_dagger(operator.A(x))
