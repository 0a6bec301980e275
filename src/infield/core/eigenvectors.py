"""Eigenvectors that are the same on every processor.

A decomposition leaves the sign of an eigenvector, and the basis within a repeated eigenvalue, to the library and the
processor. Draws go through symmetric roots, which have no basis (`priors.covariance.base`).
If the vectors themselves are used, these conventions fix them.
"""

from __future__ import annotations

import torch
from torch import Tensor

TIE = 1e-9
"""Candidates within this fraction of the largest are ties, of which the first is taken: rounding does not matter."""


CUT_MARGIN = 0.01
"""Values below a cut-off by less than this fraction of it count as above: an eigenvalue of 1e-10 of the largest is
rounded by up to 1e-3 of itself, as rounding is 1e-13 of the largest."""


def first_largest(values: Tensor) -> int:
    """Index of the first entry that is the largest up to `TIE`, for values `(n,)` of which the largest is positive."""
    return int((values >= (1 - TIE) * values.max()).nonzero()[0])


def number_above(eigenvalues: Tensor, tolerance: float) -> int:
    """Number of eigenvalues that are at least a fraction of the largest, or within `CUT_MARGIN` of that.

    Arguments:
        eigenvalues: Descending, shape `(n,)`.
        tolerance: The fraction.
    """
    return int((eigenvalues > (1 - CUT_MARGIN) * tolerance * eigenvalues[0]).sum())


def with_fixed_signs(columns: Tensor) -> Tensor:
    """The same columns `(n, k)`, each with the sign that makes its first largest entry positive."""
    rows = [first_largest(column.abs()) for column in columns.mT]
    signs = torch.stack([column[row].sign() for column, row in zip(columns.mT, rows, strict=True)])
    return columns * signs


def orthonormal(columns: Tensor) -> Tensor:
    """Gram-Schmidt of columns `(n, k)` in their order: Q of the factorisation whose R has a positive diagonal."""
    Q, R = torch.linalg.qr(columns)
    return torch.where(R.diagonal() < 0, -Q, Q)


def canonical_basis(columns: Tensor) -> Tensor:
    """The orthonormal basis of the span of orthonormal columns `(n, k)` that depends on the span alone.

    The pivoted Cholesky factor of the projector P = V V^T: P = L L^T, and P^2 = P makes L^T L = 1.
    """
    n, k = columns.shape
    basis = columns.new_zeros((n, k))
    left = columns.square().sum(1)
    for j in range(k):
        pivot = first_largest(left)
        column = columns @ columns[pivot] - basis[:, :j] @ basis[pivot, :j]
        basis[:, j] = column / torch.linalg.vector_norm(column)
        left = (left - basis[:, j].square()).clamp_min(0)
    return basis
