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


ROUNDING = 1e-13
"""A matrix that reversal changes by less than this fraction of its largest entry is unchanged by it."""


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


def eigh_by_reflection(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Eigenvalues, ascending, and eigenvectors of a symmetric matrix, at a quarter of the cost where it allows.

    Reversing the order of points maps a regular grid to itself, and the covariance A of a stationary field with it:
    J A J = A. Its eigenvectors then are even or odd, and those of two matrices of half the size (Cantoni & Butler 1976,
    Linear Algebra Appl. 13, 275): with A = [[P, Q J], [J Q, J P J]], of P + Q for (u, J u) / sqrt 2 and of P - Q for
    (u, -J u) / sqrt 2. A point in the middle belongs to the even ones.

    Arguments:
        matrix: Shape `(n, n)`. It is decomposed whole where reversal changes it by more than rounding.

    Returns:
        Shapes `(n,)` and `(n, n)`, eigenvectors in columns.
    """
    n, half = len(matrix), len(matrix) // 2
    reversed_ = matrix.flip(0, 1)
    if n < 2 or float((matrix - reversed_).abs().max()) > ROUNDING * float(matrix.abs().max()):
        return torch.linalg.eigh(matrix)
    P, Q = matrix[:half, :half], matrix[:half, n - half :].flip(1)
    even, odd = P + Q, P - Q
    if n % 2:
        to_middle = 2**0.5 * matrix[:half, half : half + 1]
        even = torch.cat([torch.cat([even, to_middle], 1), torch.cat([to_middle.mT, matrix[half, half].view(1, 1)], 1)])
    of_even, U = torch.linalg.eigh(even)
    of_odd, W = torch.linalg.eigh(odd)
    eigenvalues, order = torch.cat([of_even, of_odd]).sort()
    upper = torch.cat([U[:half], W], 1) / 2**0.5
    lower = torch.cat([U[:half], -W], 1).flip(0) / 2**0.5
    middle = torch.cat([U[half:], W.new_zeros((n % 2, half))], 1)
    return eigenvalues, torch.cat([upper, middle, lower])[:, order]
