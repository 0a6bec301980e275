"""What lands on a projector's raster: averages, holes filled from their surroundings, and darkness around it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from infield.physics.projection_mapping.raster import to_raster

N = 24


def landed(warp: np.ndarray, values: np.ndarray) -> np.ndarray:
    operator: Any = SimpleNamespace(grid=SimpleNamespace(shape=(1, N, N)))
    return to_raster(operator, 0, warp, torch.from_numpy(values)).numpy()


def test_a_pixel_each_is_the_picture_itself():
    warp = np.mgrid[:N, :N].astype(float)
    values = np.random.default_rng(0).random((3, N, N))
    assert landed(warp, values) == pytest.approx(values)


def test_several_pixels_are_averaged():
    """Two captures of each place, by whole numbers and with a half pixel between: means by the bilinear weights."""
    warp = np.concatenate([np.mgrid[:N, :N], np.mgrid[:N, :N]], axis=1).astype(float)
    values = np.concatenate([np.full((1, N, N), 2.0), np.full((1, N, N), 4.0)], axis=1)
    assert landed(warp, values) == pytest.approx(np.full((1, N, N), 3.0))


def test_one_value_fills_holes_and_reaches_two_pixels_beyond():
    v, u = np.mgrid[:N, :N].astype(float)
    inside = (v >= 6) & (v <= 17) & (u >= 5) & (u <= 16)
    hole = (np.abs(v - 11) <= 1) & (np.abs(u - 10) <= 1)
    warp = np.where(inside & ~hole, np.stack([v, u]), np.nan)
    found = landed(warp, np.full((2, N, N), 0.7))
    lit = (v >= 4) & (v <= 19) & (u >= 3) & (u <= 18)
    assert found[0][lit] == pytest.approx(np.full(int(lit.sum()), 0.7)) and not found[:, ~lit].any()
    assert np.array_equal(found[0], found[1])


def test_a_hole_in_a_ramp_is_filled_between_its_neighbours():
    v, u = np.mgrid[:N, :N].astype(float)
    hole = (np.abs(v - 11) <= 1) & (np.abs(u - 10) <= 1)
    found = landed(np.where(hole, np.nan, np.stack([v, u])), (u + 5)[None])[0]
    seen = ~hole
    assert np.abs(found - u - 5)[seen].max() < 0.35  # a fiftieth of the coarser level, which is up to 12 off
    assert np.abs(found - u - 5)[hole].max() < 1.5
