"""Grids: coordinates, spacing, descriptions, and what they refuse."""

from __future__ import annotations

import json
import math

import pytest
import torch

from infield import InfieldError
from infield.core.grid import Axis, Grid, PointSet, grid_from_json


def test_regular_grid():
    grid = Grid.regular((3, 5), (1.0, 2.0), units="m")
    assert (grid.names, grid.shape, grid.size, grid.ndim) == (("y", "x"), (3, 5), 15, 2)
    assert grid.spacing == (0.5, 0.5)
    assert grid.axes[1].coordinates == (0.0, 0.5, 1.0, 1.5, 2.0)
    assert grid.lengths == (1.5, 2.5)  # one cell a point


def test_periodic_grid_closes_one_spacing_after_its_last_point():
    grid = Grid.regular((4,), 2.0, periodic=True)
    assert grid.axes[0].coordinates == (0.0, 0.5, 1.0, 1.5)
    assert grid.lengths == (2.0,)


def test_points_run_over_the_last_axis_fastest():
    points = Grid.regular((2, 3), (1.0, 2.0)).points()
    assert points.dtype == torch.float64
    assert points.tolist() == [[0, 0], [0, 1], [0, 2], [1, 0], [1, 1], [1, 2]]
    field = points[:, 0] * 10 + points[:, 1]
    assert field.reshape(2, 3)[1, 2] == 12


def test_single_point_and_uneven_axes():
    single = Axis("x", (2.0,))
    assert single.size == 1 and single.spacing == 1.0 and single.uniform
    assert Axis("x", (0.0, 1.0, 2.0)).uniform
    assert not Axis("x", (0.0, 1.0, 2.1)).uniform
    assert Axis("x", (0.0, 1.0, 2.1)).spacing == 1.05


@pytest.mark.parametrize("coordinates", [(), (0.0, 0.0), (1.0, 0.0), (0.0, math.nan), (0.0, math.inf), (math.nan,)])
def test_bad_coordinates(coordinates):
    with pytest.raises(InfieldError, match="axis 'x': expected finite, strictly increasing coordinates"):
        Axis("x", coordinates)


def test_point_set():
    points = PointSet(((0.0, 1.0), (2.0, 3.0), (4.0, 5.0)), names=("lat", "lon"), units="degree")
    assert (points.shape, points.size, points.ndim) == ((3,), 3, 2)
    assert points.points().tolist() == [[0, 1], [2, 3], [4, 5]]


@pytest.mark.parametrize("coordinates", [((0.0,), (1.0,)), ((0.0, 1.0), (math.nan, 0.0)), ()])
def test_bad_points(coordinates):
    with pytest.raises(InfieldError, match="points: "):
        PointSet(coordinates, names=("y", "x"))


def test_repeated_axis_names():
    with pytest.raises(InfieldError, match=r"grid: found the axes \('x', 'x'\), expected different names"):
        Grid((Axis("x", (0.0, 1.0)), Axis("x", (0.0, 1.0))))


@pytest.mark.parametrize(
    "grid",
    [
        Grid.regular((3, 4, 5), (1.0, 2.0, 0.1), units="km", periodic=True),
        Grid((Axis("time", (0.0, 0.1, 5.0), "s"),)),
        PointSet(((0.1, 0.2), (0.3, 1 / 3)), names=("y", "x"), units="m", dimension="station"),
    ],
)
def test_description_round_trip(grid):
    assert grid_from_json(json.loads(json.dumps(grid.to_json()))) == grid
