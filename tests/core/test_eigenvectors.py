"""Eigenvectors of matrices that reversal leaves as they are, beside a decomposition of the whole."""

from __future__ import annotations

import pytest
import torch
from torch import Generator

from infield.core import eigenvectors
from infield.core.eigenvectors import eigh_by_reflection
from infield.core.grid import Grid
from infield.priors.gaussian.kernels import Matern


def stationary(shape: tuple[int, ...]) -> torch.Tensor:
    points = Grid.regular(shape).points()
    return torch.exp(-(points[:, None] - points[None]).square().sum(-1).sqrt() / 0.2)


def in_halves(monkeypatch: pytest.MonkeyPatch, matrix: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Eigenvalues, eigenvectors, and the size of the largest matrix that was decomposed."""
    sizes, whole = [], torch.linalg.eigh
    monkeypatch.setattr(torch.linalg, "eigh", lambda m: (sizes.append(len(m)), whole(m))[1])
    values, vectors = eigh_by_reflection(matrix)
    monkeypatch.undo()
    return values, vectors, max(sizes)


@pytest.mark.parametrize("shape", [(40,), (41,), (6, 7), (5, 7), (3, 4, 2), (2,), (1,)])
def test_halves_give_the_decomposition_of_a_stationary_covariance(monkeypatch, shape):
    A = stationary(shape)
    values, vectors, largest = in_halves(monkeypatch, A)
    assert largest <= (len(A) + 1) // 2
    torch.testing.assert_close(values, torch.linalg.eigvalsh(A), rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(vectors.mT @ vectors, torch.eye(len(A), dtype=A.dtype), rtol=0, atol=1e-12)
    torch.testing.assert_close((vectors * values) @ vectors.mT, A, rtol=0, atol=1e-12)


def test_another_matrix_is_decomposed_whole(monkeypatch):
    """Control: points that are not regular; its halves would give another matrix."""
    points = torch.rand((30, 1), generator=Generator().manual_seed(0), dtype=torch.float64)
    A = torch.exp(-torch.cdist(points, points) / 0.2)
    values, vectors, largest = in_halves(monkeypatch, A)
    assert largest == 30
    torch.testing.assert_close((vectors * values) @ vectors.mT, A, rtol=0, atol=1e-12)
    monkeypatch.setattr(eigenvectors, "ROUNDING", 10.0)
    values, vectors = eigh_by_reflection(A)
    assert float(((vectors * values) @ vectors.mT - A).abs().max()) > 0.1


def test_draws_of_a_kernel_are_those_of_the_whole_decomposition(monkeypatch):
    """Draws go through symmetric roots, which no choice of eigenvectors changes."""
    grid = Grid.regular((101,))
    white = torch.randn((3, 1, 101), generator=Generator().manual_seed(1), dtype=torch.float64)
    halves = Matern(nu=1.5, length=0.1).covariance(grid).colour(white)
    monkeypatch.setattr(eigenvectors, "ROUNDING", -1.0)
    whole = Matern(nu=1.5, length=0.1).covariance(grid).colour(white)
    torch.testing.assert_close(halves, whole, rtol=1e-9, atol=1e-9)
