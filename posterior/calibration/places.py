"""Coverage of central intervals by place: over the whole field, at its edge, near to data and far from them.

Points of one field are dependent: a standard error is that of means over whole fields, one number a simulation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from scipy.spatial import cKDTree
from torch import Generator, Tensor

from infield.core.grid import Grid, PointSet
from infield.physics.measurement import Measurement
from infield.posterior.diagnostics.calibration import ranks

LEVELS = (0.5, 0.8, 0.95)
EDGE = 0.05
"""Part of each open axis that is its edge, on either side."""


@dataclass(frozen=True)
class Covered:
    """Coverage of one level at places of one kind.

    Arguments:
        place: Which.
        level: What the interval promises.
        share: Fraction of truths within it.
        error: Standard error over simulations.
    """

    place: str
    level: float
    share: float
    error: float

    @property
    def off(self) -> float:
        """Distance from the level in standard errors."""
        return (self.share - self.level) / max(self.error, 1e-12)


def groups_of_places(measurement: Measurement) -> dict[str, Tensor]:
    """Bool tensors of shape `space` by name; "all" first, empty groups left out."""
    grid = measurement.grid
    shape = tuple(grid.shape)
    found = {"all": torch.ones(shape, dtype=torch.bool)}
    if isinstance(grid, Grid):
        edge = torch.zeros(shape, dtype=torch.bool)
        for d, axis in enumerate(grid.axes):
            if axis.periodic or axis.size < 4:
                continue
            rows = max(round(EDGE * axis.size), 1)
            edge.movedim(d, 0)[:rows] = True
            edge.movedim(d, 0)[-rows:] = True
        found |= {"edge": edge, "inside": ~edge}
    distance = distance_to_data(measurement)
    if distance is not None:
        third = torch.quantile(distance.flatten(), torch.tensor([1 / 3, 2 / 3], dtype=distance.dtype))
        near, far = distance <= third[0], distance > third[1]
        found |= {"near data": near, "between": ~near & ~far, "far from data": far}
    return {name: where for name, where in found.items() if 0 < int(where.sum()) and (name == "all" or not where.all())}


def distance_to_data(measurement: Measurement) -> Tensor | None:
    """Distance of each point of the field to the nearest datum, shape `space`; None where data are at no places.

    Data are at places where they are values of the field (`mask`, `points`): where one value of the field alone moves a
    datum. Distances are in the units of the axes, which must be one; otherwise in points.
    """
    grid, operator = measurement.grid, measurement.operator
    corners = getattr(operator, "corners", None)
    observed = measurement.observed
    if isinstance(corners, Tensor):
        at = corners.flatten().unique().cpu()
    elif observed is not None and getattr(operator, "data_grid", None) == grid and operator.name == "mask":  # type: ignore[attr-defined]
        at = observed.any(0).flatten().nonzero()[:, 0].cpu()
    else:
        return None
    points = _positions(grid)
    if not 0 < len(at) < len(points):
        return None
    distance = cKDTree(points[at].numpy()).query(points.numpy())[0]
    return torch.from_numpy(distance).reshape(tuple(grid.shape))


def _positions(grid: Grid | PointSet) -> Tensor:
    if isinstance(grid, Grid) and len({axis.units for axis in grid.axes}) > 1:
        axes = [torch.arange(n, dtype=torch.float64) for n in grid.shape]
        return torch.stack(torch.meshgrid(*axes, indexing="ij"), -1).reshape(-1, grid.ndim)
    return torch.as_tensor(grid.points(), dtype=torch.float64)


class CoverageCounter:
    """Adds up coverage simulation by simulation, so that only one is in memory.

    Arguments:
        places: As `groups_of_places` gives them.
        generator: Places truths within their ranks.
    """

    def __init__(self, places: Mapping[str, Tensor], generator: Generator) -> None:
        self._places, self._generator = places, generator
        self._shares: list[Tensor] = []

    def add(self, truth: Tensor, draws: Tensor) -> None:
        """One simulation: a truth `(channel, *space)` and its draws `(n, channel, *space)`."""
        rank = ranks(draws, truth, self._generator)
        u = (rank + torch.rand(rank.shape, generator=self._generator, dtype=torch.float64)) / (len(draws) + 1)
        inside = torch.stack([(u - 0.5).abs() <= level / 2 for level in LEVELS]).to(torch.float64)
        self._shares.append(torch.stack([inside[:, :, where].mean((1, 2)) for where in self._places.values()]))

    @property
    def result(self) -> list[Covered]:
        """Of all places and levels."""
        shares = torch.stack(self._shares)
        mean, error = shares.mean(0), shares.std(0) / math.sqrt(len(shares))
        return [
            Covered(place, level, float(mean[g, i]), float(error[g, i]))
            for g, place in enumerate(self._places)
            for i, level in enumerate(LEVELS)
        ]
