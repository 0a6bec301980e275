"""Covariances of many scattered points: leading directions and a constant remainder, in O(N r^2)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from infield.core.eigenvectors import first_largest
from infield.priors.covariance.base import Covariance
from infield.priors.covariance.modes import LeadingDirections, Modes

NEGLIGIBLE = 1e-12
"""Fraction of the trace at which the approximation stops."""

FLOOR = 1e-15
"""Smallest variance of a mode, over the largest: a source must be invertible."""


@dataclass(frozen=True)
class PartialCholesky:
    """C = L L^T + E with E positive semidefinite.

    Arguments:
        factor: L, shape `(points, r)`.
        left: Diagonal of E, shape `(points,)`: no entry of E, and no eigenvalue, is larger than its sum.
    """

    factor: Tensor
    left: Tensor

    @property
    def residual_fraction(self) -> float:
        """trace(E) / trace(C)."""
        left = float(self.left.sum())
        return left / (left + float(self.factor.square().sum()))

    def to_eigenmodes(self, shape: tuple[int, ...], channels: int = 1) -> Covariance:
        """V diag(e) V^T + rho (1 - V V^T), diagonal in its modes, where V diag(e) V^T = L L^T and rho keeps the trace.

        Its distance from C, in spectral norm, is at most trace(E).
        """
        vectors, singular, _ = torch.linalg.svd(self.factor, full_matrices=False)
        points, rank = self.factor.shape
        rho = self.left.sum() / max(points - rank, 1)
        diagonal = torch.cat([singular.square(), rho.expand(points - rank)])
        diagonal = diagonal.clamp_min(FLOOR * float(diagonal.max())).reshape(shape).expand(channels, *shape).clone()
        return Covariance.diagonal_in(LeadingDirections.of(vectors, shape), diagonal)

    def to_modes(self, modes: Modes, shape: tuple[int, ...]) -> Covariance:
        """L L^T + rho 1 in given modes, one channel; rho keeps the trace."""
        factors = modes.analyse(self.factor.mT.reshape(-1, 1, *shape))
        rho = self.left.mean().clamp_min(FLOOR * float(self.factor.square().sum()))
        return Covariance(modes, rho.expand(1, *shape).clone(), factors)


def pivoted_cholesky(column: Callable[[int], Tensor], diagonal: Tensor, rank: int) -> PartialCholesky:
    """Partial Cholesky factorisation, always of the column with the largest remainder.

    Harbrecht, Peters & Schneider 2012, "On the low-rank approximation by the pivoted Cholesky decomposition", Appl.
    Numer. Math. 62, 428, algorithm 1. Cost: r columns of C and O(N r^2).

    Arguments:
        column: The index of a point -> its covariances with all points, shape `(points,)`.
        diagonal: Variances of all points, shape `(points,)`.
        rank: Largest r; fewer where the trace that is left is negligible.
    """
    left, trace = diagonal.clone(), float(diagonal.sum())
    rows = diagonal.new_zeros((rank, len(diagonal)))
    for k in range(rank):
        if float(left.sum()) <= NEGLIGIBLE * trace:
            rows = rows[:k]
            break
        pivot = first_largest(left)
        row = column(pivot) - rows[:k, pivot] @ rows[:k]
        rows[k] = row / left[pivot].sqrt()
        left = (left - rows[k].square()).clamp_min(0)
        left[pivot] = 0
    return PartialCholesky(rows.mT, left)
