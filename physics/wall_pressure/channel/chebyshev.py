r"""Polynomials on [-1, 1] by their values at the Gauss-Lobatto points: derivatives, integrals, Helmholtz equations.

The equations :math:`(D^2 - k^2) f = r` with f = 0 at both ends are solved for all k at once in the eigenvectors of
:math:`D^2`, which are computed once (Haidvogel & Zang 1979, J. Comput. Phys. 30, 167): there a solution is a division.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from infield.core.errors import InfieldError


def gauss_lobatto(n: int) -> Tensor:
    """The n extrema of the Chebyshev polynomial of degree n - 1, from -1 to 1, symmetric to the last bit."""
    if n < 5:
        raise InfieldError(where="Chebyshev points", found=n, expected="at least 5")
    return torch.sin(math.pi * torch.arange(1 - n, n, 2, dtype=torch.float64) / (2 * (n - 1)))


def derivatives(n: int) -> Tensor:
    """Matrices of the first and the second derivative, shape `(2, n, n)`.

    Differences of points come from trigonometry and the lower half of the rows from the upper by symmetry (Weideman &
    Reddy 2000, ACM Trans. Math. Softw. 26, 465); diagonals make rows sum to zero, so that a constant has no slope.
    """
    gauss_lobatto(n)
    angle = math.pi * torch.arange(n, dtype=torch.float64) / (n - 1)
    i, j = angle[:, None], angle[None]
    difference = 2 * torch.sin((i + j) / 2) * torch.sin((i - j) / 2)  # x_i - x_j
    half = n // 2
    difference[n - half :] = -difference[:half].flip(0, 1)
    difference.fill_diagonal_(1)
    sign = torch.ones(n, dtype=torch.float64)
    sign[1::2] = -1
    sign[[0, -1]] *= 2
    first = sign[:, None] / sign[None] / difference
    first.fill_diagonal_(0)
    first -= torch.diag(first.sum(1))
    second = 2 * first * (first.diagonal()[:, None] - 1 / difference)
    second.fill_diagonal_(0)
    second -= torch.diag(second.sum(1))
    return torch.stack([first, second])


def clenshaw_curtis(n: int) -> Tensor:
    """Weights of the integral over [-1, 1], exact for polynomials of degree below n, shape `(n,)`."""
    gauss_lobatto(n)
    last = n - 1
    angle = math.pi * torch.arange(n, dtype=torch.float64) / last
    k = torch.arange(1, last // 2 + 1, dtype=torch.float64)
    factor = torch.where(2 * k == last, 1.0, 2.0) / (4 * k**2 - 1)
    weights = (1 - (factor * torch.cos(2 * k * angle[:, None])).sum(1)) * 2 / last
    weights[[0, -1]] /= 2
    return weights


class Chebyshev:
    """Functions on [-1, 1] that vanish at both ends, in the eigenvectors of their second derivative.

    Such a function is its n - 2 coefficients; `values @ c` are its values at all n points.

    Arguments:
        n: Number of points.
        device: Device of the matrices.

    Attributes:
        y: The points, `(n,)`.
        weights: Quadrature weights, `(n,)`.
        first, second: Matrices of the derivatives, `(n, n)`.
        eigenvalues: Eigenvalues of the second derivative, real and negative, smallest magnitude first, `(n - 2,)`.
        values, slopes, curvatures: Of the eigenvectors at all points, `(n, n - 2)`; each has largest magnitude 1, and a
            positive slope at -1.
        coefficients: Values at the inner points to coefficients, `(n - 2, n - 2)`.
        end_slopes: `slopes` at -1 and 1, `(2, n - 2)`.
        end_sources: Coefficients of what the values 1 at -1 and at 1 add to the second derivative inside, `(n - 2, 2)`.
    """

    def __init__(self, n: int, device: torch.device | str = "cpu") -> None:
        self.y, self.weights = gauss_lobatto(n), clenshaw_curtis(n)
        self.first, self.second = derivatives(n)
        self.eigenvalues, vectors, self.coefficients = _eigenvectors(self.second[1:-1, 1:-1])
        scale = vectors.abs().amax(0) * (self.first[0, 1:-1] @ vectors).sign()
        vectors, self.coefficients = vectors / scale, self.coefficients * scale[:, None]
        self.values = torch.nn.functional.pad(vectors, (0, 0, 1, 1))
        self.slopes, self.curvatures = self.first @ self.values, self.second @ self.values
        self.end_slopes = self.slopes[[0, -1]]
        self.end_sources = self.coefficients @ self.second[1:-1, [0, -1]]
        for name, matrix in list(vars(self).items()):
            setattr(self, name, matrix.to(device))

    def solve(self, rhs: Tensor, k2: Tensor) -> Tensor:
        """The f of f'' - k2 f = rhs at the inner points, f = 0 at both ends.

        Arguments:
            rhs: Values at all n points along the first axis, `(n, *modes)`; real or complex.
            k2: What is subtracted from the second derivative, `modes`.

        Returns:
            Values at all points, `(n, *modes)`.
        """
        inner = product(self.coefficients, rhs[1:-1])
        eigenvalues = self.eigenvalues.reshape(-1, *[1] * k2.ndim)
        return product(self.values, inner / (eigenvalues - k2))


def product(matrix: Tensor, values: Tensor) -> Tensor:
    """A real matrix times values along their first axis, real or complex."""
    if not values.is_complex():
        return (matrix @ values.reshape(len(values), -1)).reshape(-1, *values.shape[1:])
    pairs = torch.view_as_real(values.contiguous())
    return torch.view_as_complex((matrix @ pairs.reshape(len(values), -1)).reshape(-1, *pairs.shape[1:]))


def _eigenvectors(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Eigenvalues, eigenvectors and their inverse, of a matrix that is the same when the points are mirrored.

    Even and odd vectors are computed apart: their eigenvalues pair up and would mix.
    """
    n = len(matrix)
    identity = torch.eye(n, dtype=matrix.dtype)
    values, vectors, inverses = [], [], []
    for sign, count in ((1, n - n // 2), (-1, n // 2)):
        basis = identity[:, :count] + sign * identity.flip(0)[:, :count]
        basis = basis / basis.norm(dim=0)
        found, inside = torch.linalg.eig(basis.mT @ matrix @ basis)
        values.append(found.real)
        vectors.append(basis @ inside.real)
        inverses.append(torch.linalg.inv(inside.real) @ basis.mT)
    order = torch.cat(values).abs().argsort()
    return torch.cat(values)[order], torch.cat(vectors, 1)[:, order], torch.cat(inverses)[order]
