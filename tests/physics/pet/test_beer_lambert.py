"""Transmission: the law of Beer and Lambert, its derivative, and the counts of a real scan."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from infield.core.errors import InfieldError
from infield.core.grid import Axis, Grid
from infield.physics.operators.jacobian import jacobian_product
from infield.physics.operators.registry import build_operator

GRID = Grid(tuple(Axis(name, tuple(10.0 * np.arange(8)), "mm") for name in "yx"))
GEOMETRY = {"angles": 6, "bins": 9, "bin_width": 10.0}


def build(arrays=None, **parameters):
    arrays = arrays or {}
    description = {"name": "beer-lambert", "parameters": GEOMETRY | parameters, "arrays": {n: n for n in arrays}}
    return build_operator(description, arrays, GRID, 1)


def test_it_is_the_exponential_of_line_integrals_and_so_is_its_derivative():
    generator = torch.Generator().manual_seed(0)
    mu = 0.01 * torch.rand((1, 1, 8, 8), generator=generator, dtype=torch.float64)
    v, w = (torch.randn(s, generator=generator, dtype=torch.float64) for s in ((1, 1, 8, 8), (1, 1, 6, 9)))
    A = build({"background": np.full((6, 9), 4.0)}, blank=100.0)
    P = build_operator({"name": "projection", "parameters": GEOMETRY}, {}, GRID, 1)
    torch.testing.assert_close(A.A(mu), 100 * torch.exp(-P.A(mu)) + 4)
    step = 1e-6
    numerical = (A.A(mu + step * v) - A.A(mu - step * v)) / (2 * step)
    torch.testing.assert_close(jacobian_product(A, mu, v), numerical, rtol=1e-6, atol=1e-4)
    torch.testing.assert_close((A.A_vjp(mu, w) * v).sum(), (w * A.A_jvp(mu, v)).sum(), rtol=1e-12, atol=0)
    x = mu.clone().requires_grad_()
    torch.testing.assert_close(torch.autograd.grad(A.A(x), x, w)[0], A.A_vjp(mu, w))


def test_bins_without_blank_hold_no_data():
    blank = np.full((6, 9), 10.0)
    blank[0] = 0
    assert build({"blank": blank}).observed.sum() == 45
    for arrays, said in (({}, "no blank"), ({"blank": np.zeros((6, 9))}, "a blank of 0")):
        with pytest.raises(InfieldError, match=said):
            build(arrays)
