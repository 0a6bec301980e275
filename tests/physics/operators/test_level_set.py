"""Two-phase fields by their level set: distances that are known, the step's derivative, and the way round."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from infield import InfieldError
from infield.core.grid import Grid
from infield.physics.operators.level_set import TwoPhaseLevelSet, signed_distance
from infield.physics.operators.registry import build_operator

GRID = Grid.regular((33, 33), 1.0)


def test_the_distance_to_a_straight_interface_is_that_to_the_middle_between_points():
    x = torch.tensor(GRID.axes[1].coordinates, dtype=torch.float64).expand(1, 33, 33)
    distance = signed_distance(x > 0.5, GRID)
    torch.testing.assert_close(distance, x - 0.5 - 1 / 64, rtol=0, atol=1e-12)


@pytest.mark.parametrize("points", [33, 65])
def test_the_distance_to_a_circle(points):
    grid = Grid.regular((points, points), 1.0)
    y, x = (torch.tensor(axis.coordinates, dtype=torch.float64) - 0.5 for axis in grid.axes)
    radius = torch.hypot(y[:, None], x[None])
    distance = signed_distance((radius < 0.3)[None], grid)[0]
    error = (distance - (0.3 - radius)).abs().max()
    assert error < 1.1 / (points - 1)  # half a cell along the diagonal, and half of it for where the interface lies
    assert (distance - (radius - 0.3)).abs().max() > 0.2  # negative control: the other sign


def test_the_distance_says_where_the_phases_are():
    high = torch.randn((5, 33, 33), generator=torch.Generator().manual_seed(0)) > 0.3
    distance = signed_distance(high, GRID)
    assert torch.equal(distance > 0, high) and distance.abs().min() > 0
    phases = TwoPhaseLevelSet(GRID, 1.0, 3.0, 0.01)
    assert torch.equal(phases.sharp(distance[:, None])[:, 0], torch.where(high, 3.0, 1.0).double())


def test_a_field_of_one_phase_is_far_from_the_other():
    distance = signed_distance(torch.stack([torch.ones(33, 33), torch.zeros(33, 33)]).bool(), GRID)
    assert (distance[0] > 1).all() and torch.equal(distance[1], -distance[0])


def test_the_step_tends_to_the_sharp_one_and_its_derivative_is_right():
    x = torch.randn((2, 1, 33, 33), generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    v = torch.randn(x.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    errors = [
        (TwoPhaseLevelSet(GRID, 1.0, 3.0, w).A(x) - TwoPhaseLevelSet(GRID, 1.0, 3.0, w).sharp(x)).abs().mean()
        for w in (0.1, 0.05)
    ]
    assert 1.7 < errors[0] / errors[1] < 2.3
    phases = TwoPhaseLevelSet(GRID, 1.0, 3.0, 0.4)
    w = x.clone().requires_grad_()
    torch.testing.assert_close(torch.autograd.grad(phases.A(w), w, v)[0], phases.A_vjp(x, v))


def test_a_file_can_ask_for_it():
    described = {"name": "phases", "parameters": {"low": 1.0, "high": 3, "width": 0.2}}
    operator = build_operator(described, {}, GRID, 1)
    x = torch.linspace(-1, 1, 33 * 33, dtype=torch.float64).reshape(1, 1, 33, 33)
    torch.testing.assert_close(operator.A(x), 2 + torch.tanh(x / 0.4))


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"low": 1.0, "high": 3.0}, "width None, expected a finite number above zero"),
        ({"low": np.nan, "high": 3.0, "width": 1.0}, "low nan, expected a finite number"),
        ({"high": 3.0, "width": 1.0}, "low None"),
        ({"low": 1.0, "high": 3.0, "width": 1.0, "middle": 2.0}, "parameter middle"),
    ],
)
def test_what_is_wrong_is_said(parameters, message):
    with pytest.raises(InfieldError, match=message):
        build_operator({"name": "phases", "parameters": parameters}, {}, GRID, 1)
    with pytest.raises(InfieldError, match="expected 1"):
        build_operator({"name": "phases", "parameters": {"low": 1.0, "high": 3.0, "width": 1.0}}, {}, GRID, 2)


def test_distances_need_an_open_grid():
    with pytest.raises(InfieldError, match="periodic or an uneven grid"):
        signed_distance(torch.ones(1, 4, 4).bool(), Grid.regular((4, 4), periodic=True))
