"""Chebyshev points: derivatives, integrals and Helmholtz equations, with their accuracy."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from infield import InfieldError
from infield.physics.wall_pressure.channel.chebyshev import Chebyshev, clenshaw_curtis, derivatives, gauss_lobatto


def bumpy(y):
    """A smooth function that is no polynomial, with its first two derivatives."""
    f = torch.exp(torch.sin(3 * y))
    return f, 3 * torch.cos(3 * y) * f, 9 * (torch.cos(3 * y) ** 2 - torch.sin(3 * y)) * f


def test_points_are_symmetric_and_end_at_the_walls():
    for n in (5, 32, 65):
        y = gauss_lobatto(n)
        assert y[0] == -1 and y[-1] == 1 and torch.equal(y, -y.flip(0)) and (y.diff() > 0).all()
        torch.testing.assert_close(y, -torch.cos(math.pi * torch.arange(n, dtype=torch.float64) / (n - 1)))
    with pytest.raises(InfieldError, match="found 4, expected at least 5"):
        Chebyshev(4)


@pytest.mark.parametrize("n", [12, 33])
def test_polynomials_are_exact(n):
    y, (first, second), weights = gauss_lobatto(n), derivatives(n), clenshaw_curtis(n)
    for degree in range(n):
        f = y**degree
        torch.testing.assert_close(first @ f, degree * y ** max(degree - 1, 0), rtol=0, atol=1e-10)
        curvature = degree * (degree - 1) * y ** max(degree - 2, 0)
        torch.testing.assert_close(second @ f, curvature, rtol=0, atol=1e-8)
        integral = 0 if degree % 2 else 2 / (degree + 1)
        assert abs(float(weights @ f) - integral) < 1e-14
    angle = torch.arccos(y)[1:-1]  # negative control: one degree too many
    wave, slope = torch.cos(n * torch.arccos(y)), n * torch.sin(n * angle) / torch.sin(angle)
    assert float(((first @ wave)[1:-1] - slope).abs().max()) > 1


def test_a_constant_has_no_slope_where_plain_formulas_give_it_one():
    n = 129
    first, second = derivatives(n)
    assert float(first.sum(1).abs().max()) < 1e-10 and float(second.sum(1).abs().max()) < 1e-7
    y = gauss_lobatto(n)
    f, slope, curvature = bumpy(y)
    plain = first.clone()
    plain.diagonal()[1:-1] = -y[1:-1] / (2 * (1 - y[1:-1] ** 2))
    plain[0, 0], plain[-1, -1] = -(2 * (n - 1) ** 2 + 1) / 6, (2 * (n - 1) ** 2 + 1) / 6
    good, bad = (float((matrix @ f - slope).abs().max()) for matrix in (first, plain))
    assert good < 1e-10 and bad > 2 * good, (good, bad)
    assert float((second @ f - curvature).abs().max()) < 1e-6


def test_accuracy_is_spectral():
    """Refining by a third gains more digits each time, until rounding is left; any fixed order would gain the same."""
    errors = []
    for n in (9, 13, 19, 28):
        c = Chebyshev(n)
        f, slope, curvature = bumpy(c.y)
        k2 = torch.tensor([0.0, 2.0, 40.0], dtype=torch.float64)
        ends = torch.stack([1 - c.y, 1 + c.y], 1) @ f[[0, -1]] / 2  # a straight line, so that the rest vanishes there
        rhs = curvature[:, None] - k2 * (f - ends)[:, None]
        solved = c.solve(rhs, k2) + ends[:, None]
        exact = float(Chebyshev(97).weights @ bumpy(gauss_lobatto(97))[0])
        found = [c.first @ f - slope, c.second @ f - curvature, solved - f[:, None]]
        errors.append([float(e.abs().max()) for e in found] + [abs(float(c.weights @ f) - exact)])
    orders = np.diff(np.log(np.array(errors)), axis=0) / -np.diff(np.log([9, 13, 19, 28]))[:, None]
    assert (orders[-1] > 8).all() and (orders[-1] > orders[0]).all(), orders
    assert max(errors[-1]) < 1e-3 and errors[-1][2] < 1e-6, errors


@pytest.mark.parametrize("n", [9, 24, 65, 129])
def test_eigenvectors_of_the_second_derivative(n):
    c = Chebyshev(n)
    inner = c.second[1:-1, 1:-1]
    scale = inner.norm()
    torch.testing.assert_close(
        inner @ c.values[1:-1], c.values[1:-1] * c.eigenvalues, rtol=0, atol=1e-13 * float(scale)
    )
    torch.testing.assert_close(c.coefficients @ c.values[1:-1], torch.eye(n - 2).double(), rtol=0, atol=1e-13)
    exact = -((math.pi / 2 * torch.arange(1, n - 1, dtype=torch.float64)) ** 2)
    few = n // 3
    torch.testing.assert_close(c.eigenvalues[:few], exact[:few], rtol=0.002 if n == 9 else 1e-6, atol=0)
    assert (c.eigenvalues < 0).all() and float(c.eigenvalues[-1] / exact[-1]) > 1.2  # the last ones never fit
    assert (c.end_slopes[0] > 0).all() and float(torch.linalg.cond(c.values[1:-1])) < 12


def test_solutions_meet_their_equation_and_vanish_at_both_ends():
    c = Chebyshev(65)
    generator = torch.Generator().manual_seed(0)
    rhs = torch.randn(65, 3, 2, generator=generator, dtype=torch.complex128)
    k2 = torch.tensor([[0.0, 1.0], [50.0, 3e3], [1e5, 9.0]], dtype=torch.float64)
    f = c.solve(rhs, k2)
    residual = (torch.einsum("ij,jkl->ikl", c.second.to(f.dtype), f) - k2 * f - rhs)[1:-1]
    assert float(residual.abs().max()) < 1e-9 and float(f[[0, -1]].abs().max()) == 0
    torch.testing.assert_close(c.solve(rhs.real, k2), f.real)
    mirrored = c.solve(rhs.flip(0), k2)
    torch.testing.assert_close(mirrored, f.flip(0), rtol=1e-12, atol=1e-14)
