"""A measurement of innovations has no description, rather than one of another operator."""

from __future__ import annotations

import numpy as np
import torch

from infield.core.grid import Grid
from infield.core.transform import Affine, Whitening, Window
from infield.physics.measurement import Measurement
from infield.physics.noise.gaussian import GaussianNoise
from infield.physics.operators.registry import build_operator

GRID = Grid.regular((5, 6), (1.0, 1.2))


class Double:
    """Innovations xi of the field 2 xi."""

    def colour(self, xi):
        return 2 * xi

    def transpose(self, x):
        return 2 * x


def test_innovations_are_not_described_at_all():
    """No file holds a root of a covariance."""
    description, arrays = {"name": "mask", "arrays": {"mask": "seen"}}, {"seen": np.eye(5, 6)}
    operator = build_operator(description, arrays, GRID, 1)
    y = torch.ones(1, 1, 5, 6).double()
    measurement = Measurement(
        y=y, operator=operator, noise=GaussianNoise(0.1), grid=GRID, description=description, arrays=arrays
    )
    white = measurement.pullback(Whitening(Double()))
    xi = torch.randn((1, 1, 5, 6), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    assert torch.equal(white.operator.A(xi), operator.A(2 * xi))
    assert white.description == {} and white.arrays == {}
    assert white.pullback(Window((5, 6), (7, 7))).description == {}
    assert white.pullback(Affine(torch.tensor(0.0), torch.tensor(2.0))).description == {}
