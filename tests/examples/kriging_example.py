"""Matern data at random positions on a line, for tests of kriging."""

import numpy as np
import torch

from infield.core.grid import Axis, Grid
from infield.physics.operators.sensors import PointSensors

GRID = Grid((Axis("x", tuple(0.5 * i for i in range(30)), "m"),))


def data_on(grid, *, n=60, length=3.0, noise=0.05, seed=0, bias=0.0):
    """Matern 3/2 data around 10 at random positions, by numpy; the second half shares an error."""
    random = np.random.default_rng(seed)
    extent = grid.axes[0].coordinates[-1]
    x = np.sort(random.uniform(0, extent, n))
    r = np.sqrt(3) * np.abs(x[:, None] - x) / length
    f = 10 + np.linalg.cholesky((1 + r) * np.exp(-r) + 1e-10 * np.eye(n)) @ random.standard_normal(n)
    y = f + np.sqrt(noise) * random.standard_normal(n) + bias * (np.arange(n) >= n // 2)
    operator = PointSensors.at_coordinates(grid, 1, torch.from_numpy(x)[:, None])
    return x, torch.from_numpy(y), operator
