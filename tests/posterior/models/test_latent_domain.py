"""What a prior is fitted with: laws on a domain beside dense matrices, and errors of an exact parabola."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch

from infield.core.grid import Axis, Grid, PointSet
from infield.posterior.models.latent_fit import _Domain, _errors
from infield.priors.gaussian.kernels import Matern

LINE = Grid((Axis("x", tuple(0.5 * i for i in range(9)), "m"),))
UNEVEN = Grid((Axis("x", (0.0, 0.5, 1.5, 3.0, 3.5), "m"),))
PLANE = Grid((Axis("y", tuple(0.5 * i for i in range(5)), "m"), Axis("x", tuple(0.25 * i for i in range(7)), "m")))
POINTS = PointSet(((0.0, 0.0), (3.0, 1.0), (1.0, 2.0), (0.5, 0.5)), ("x", "y"), "m")


def matern_32(grid: Any, length: float) -> torch.Tensor:
    r = torch.cdist(grid.points(), grid.points()) * math.sqrt(3) / length
    return (1 + r) * (-r).exp()


@pytest.mark.parametrize(("grid", "extent", "spacing"), [
    (LINE, 4.0, 0.5), (UNEVEN, 3.5, None), (PLANE, 2.0, 0.25), (POINTS, 3.0, 3.0 / (math.sqrt(4) - 1)),
])  # fmt: skip
def test_extent_and_spacing(grid, extent, spacing):
    domain = _Domain(grid, 1, 2.0)
    assert domain.extent == pytest.approx(extent) and domain.uniform == (grid in (LINE, PLANE))
    if spacing is not None:
        assert domain.spacing == pytest.approx(spacing)


@pytest.mark.parametrize("grid", [LINE, UNEVEN, PLANE, POINTS])
def test_a_product_is_that_of_the_dense_matrix(grid):
    """sd^2 C + wide^2 1 1^T, each channel by itself, by transforms on a torus or by the matrix."""
    wide, sd = 3.0, 0.7
    product = _Domain(grid, 2, wide).product(Matern(nu=1.5, length=0.8), sd)
    x = torch.randn(4, 2, *grid.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    n = int(np.prod(grid.shape))
    dense = sd**2 * matern_32(grid, 0.8) + wide**2 * torch.ones(n, n, dtype=torch.float64)
    torch.testing.assert_close(product(x).flatten(2), x.flatten(2) @ dense, atol=1e-6, rtol=0)
    constant = _Domain(grid, 2, wide).product(None, 0.0)(x)
    assert constant.shape == x.shape
    torch.testing.assert_close(constant.flatten(2), wide**2 * x.flatten(2).sum(2, keepdim=True).expand(-1, -1, n))


def test_errors_of_a_parabola_are_those_of_its_curvature():
    precision = np.array([[4.0, 1.5], [1.5, 2.0]])
    best = np.array([0.3, -0.7])
    offsets = 0.2 * np.random.default_rng(0).standard_normal((9, 2))
    offsets[0] = 0
    tried = [(best + d, 5 - 0.5 * d @ precision @ d) for d in offsets]
    far = [(best + np.array([9.0, 9.0]), -1e6)]  # no parabola holds so far away: left out
    expected = np.sqrt(np.linalg.inv(precision).diagonal())
    assert _errors(tried + far, best) == pytest.approx(expected)
    assert np.isnan(_errors(tried[:5], best)).all()  # six numbers by five values
    saddle = [(theta, 5 + 0.5 * (theta - best)[0] ** 2 - 0.5 * (theta - best)[1] ** 2) for theta, _ in tried]
    assert np.isnan(_errors(saddle, best)).all()
