"""Grids and point sets: names, units and coordinates of the space axes of a field."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infield.core.brief import Brief
from infield.core.errors import InfieldError

UNIFORM_RTOL = 1e-4
"""Relative difference of spacings up to which an axis is uniform."""

STRAIGHT_RTOL = 1e-3
"""Of a spacing, how far positions lie from a straight line where they were written with a few digits."""


def _uniform(coordinates: np.ndarray) -> bool:
    steps = np.diff(coordinates)
    return bool(steps.size == 0 or np.allclose(steps, steps.mean(), rtol=UNIFORM_RTOL, atol=0))


def snap(coordinates: np.ndarray) -> np.ndarray:
    """Positions of an axis as they were before they were rounded, to float32 or to a few digits.

    Arguments:
        coordinates: As a file has them, in any precision and order.

    Returns:
        float64: an even axis where they lie on a straight line to rounding, and spacings alone would not show it; else
        what is given.
    """
    exact = np.asarray(coordinates, dtype=np.float64)
    if len(exact) < 3 or not np.isfinite(exact).all() or exact[0] == exact[-1] or _uniform(exact):
        return exact
    straight = np.linspace(exact[0], exact[-1], len(exact))
    step, off = abs(straight[1] - straight[0]), np.abs(exact - straight).max()
    rounding = 4 * float(np.finfo(np.float32).eps) * np.abs(exact).max()
    resolved = rounding if rounding < 0.1 * step else 0.0
    return straight if off <= max(STRAIGHT_RTOL * step, resolved) else exact


@dataclass(frozen=True, repr=False)
class Axis(Brief):
    """One space axis of a regular grid.

    Arguments:
        name: Dimension name, as in the file.
        coordinates: Positions in `units`, strictly increasing.
        units: Units of the coordinates, as CF writes them ("1" for none).
        periodic: Whether the axis is periodic, with its last point one spacing before the first.
    """

    name: str
    coordinates: tuple[float, ...]
    units: str = "1"
    periodic: bool = False

    def __post_init__(self) -> None:
        steps = np.diff(self.coordinates)
        if len(self.coordinates) == 0 or (steps <= 0).any() or not np.isfinite(self.coordinates).all():
            raise InfieldError(where=f"axis '{self.name}'", expected="finite, strictly increasing coordinates")

    def about(self) -> dict[str, object]:
        """What a short description shows."""
        return {"name": self.name, "points": self.size, "range": self.extent, "periodic": self.periodic}

    @property
    def extent(self) -> str:
        """First and last position with their units, for people."""
        unit = "" if self.units == "1" else f" {self.units}"
        return f"{self.coordinates[0]:g} to {self.coordinates[-1]:g}{unit}"

    @property
    def size(self) -> int:
        return len(self.coordinates)

    @property
    def spacing(self) -> float:
        """Distance between neighbours, in `units`; the mean one if the axis is not uniform."""
        return (self.coordinates[-1] - self.coordinates[0]) / (self.size - 1) if self.size > 1 else 1.0

    @property
    def uniform(self) -> bool:
        return _uniform(np.asarray(self.coordinates))

    @property
    def spacings(self) -> str:
        """Description of its spacings, for messages about an axis that is not uniform."""
        steps = np.diff(self.coordinates)
        worst = int(np.abs(steps - self.spacing).argmax())
        return (
            f"uneven spacing along axis '{self.name}', {steps.min():.6g} to {steps.max():.6g} (off by "
            f"{abs(steps[worst] / self.spacing - 1):.2g} of the mean at point {worst})"
        )


@dataclass(frozen=True, repr=False)
class Grid(Brief):
    """A regular grid: the product of its axes. Fields on it have shape `(batch, channel, *grid.shape)`.

    Arguments:
        axes: Space axes, slowest first.

    Examples:
        >>> grid = Grid.regular((64, 128), (1.0, 2.0), units="m", periodic=True)
        >>> grid.shape, grid.names, grid.axes[0].spacing
        ((64, 128), ('y', 'x'), 0.015625)
    """

    axes: tuple[Axis, ...]

    def __post_init__(self) -> None:
        if len(set(self.names)) < len(self.axes):
            raise InfieldError(where="grid", found=f"the axes {self.names}", expected="different names")

    def about(self) -> dict[str, object]:
        """What a short description shows."""
        return {
            axis.name: f"{axis.size} points, {axis.extent}" + (", periodic" if axis.periodic else "")
            for axis in self.axes
        }

    @classmethod
    def regular(
        cls,
        shape: tuple[int, ...],
        lengths: float | tuple[float, ...] = 1.0,
        *,
        names: tuple[str, ...] | None = None,
        units: str = "1",
        periodic: bool = False,
    ) -> Grid:
        """A uniform grid from 0; a periodic axis has spacing length / n, another one length / (n - 1)."""
        ndim = len(shape)
        names = names or ("z", "y", "x")[-ndim:]
        lengths = (lengths,) * ndim if isinstance(lengths, int | float) else lengths
        axes = []
        for name, n, length in zip(names, shape, lengths, strict=True):
            step = length / (n if periodic else max(n - 1, 1))
            axes.append(Axis(name, tuple(step * i for i in range(n)), units, periodic))
        return cls(tuple(axes))

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(axis.name for axis in self.axes)

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(axis.size for axis in self.axes)

    @property
    def ndim(self) -> int:
        return len(self.axes)

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def spacing(self) -> tuple[float, ...]:
        return tuple(axis.spacing for axis in self.axes)

    @property
    def uniform(self) -> bool:
        """Whether the points of every axis are equally far apart."""
        return all(axis.uniform for axis in self.axes)

    @property
    def periodic(self) -> tuple[bool, ...]:
        """Of each axis, whether it is periodic."""
        return tuple(axis.periodic for axis in self.axes)

    @property
    def lengths(self) -> tuple[float, ...]:
        """Size of the domain along each axis, one cell per point, in the units of the axis."""
        return tuple(axis.spacing * axis.size for axis in self.axes)

    def points(self) -> Tensor:
        """Coordinates of all points, shape `(size, ndim)`, float64, last axis fastest."""
        axes = [torch.tensor(axis.coordinates, dtype=torch.float64) for axis in self.axes]
        return torch.stack([c.reshape(-1) for c in torch.meshgrid(*axes, indexing="ij")], dim=-1)

    def to_json(self) -> dict[str, Any]:
        """A description in plain JSON types, from which `Grid.from_json` rebuilds the same grid."""
        return {
            "axes": [
                {"name": a.name, "coordinates": list(a.coordinates), "units": a.units, "periodic": a.periodic}
                for a in self.axes
            ]
        }

    @classmethod
    def from_json(cls, description: dict[str, Any]) -> Grid:
        return cls(
            tuple(
                Axis(a["name"], tuple(float(c) for c in a["coordinates"]), a["units"], bool(a["periodic"]))
                for a in description["axes"]
            )
        )


@dataclass(frozen=True, repr=False)
class PointSet(Brief):
    """Scattered points. Fields on it have shape `(batch, channel, number of points)`.

    Arguments:
        coordinates: One tuple of coordinates per point.
        names: Names of the coordinates.
        units: Units of the coordinates.
        dimension: Name of the dimension along which the points are listed.
        axis_units: Units of each coordinate where they differ, as those of longitude and latitude; empty where `units`
            holds for all.
    """

    coordinates: tuple[tuple[float, ...], ...]
    names: tuple[str, ...] = ("x",)
    units: str = "1"
    dimension: str = "point"
    axis_units: tuple[str, ...] = ()

    def about(self) -> dict[str, object]:
        """What a short description shows."""
        units = self.axis_units or (self.units,) * self.ndim
        columns = zip(self.names, units, zip(*self.coordinates, strict=True), strict=True)
        ranges = {name: f"{min(c):g} to {max(c):g}{'' if unit == '1' else f' {unit}'}" for name, unit, c in columns}
        return {"points": len(self.coordinates), **ranges}

    def __post_init__(self) -> None:
        if not self.coordinates:
            raise InfieldError(where="points", found="none", expected="at least one")
        for i, point in enumerate(self.coordinates):
            if len(point) != self.ndim or not all(map(math.isfinite, point)):
                raise InfieldError(
                    where="points", found=f"point {i} at {point}", expected=f"{self.ndim} finite numbers {self.names}"
                )

    @classmethod
    def at(cls, points: Tensor, *, units: str = "1") -> PointSet:
        """Points without names of their own, from their coordinates `(n, ndim)`."""
        names = tuple(f"x{i}" for i in range(points.shape[1]))
        return cls(tuple(map(tuple, points.tolist())), names, units)

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.coordinates),)

    @property
    def ndim(self) -> int:
        return len(self.names)

    @property
    def size(self) -> int:
        return len(self.coordinates)

    def points(self) -> Tensor:
        """Coordinates of all points, shape `(size, ndim)`, float64."""
        return torch.tensor(self.coordinates, dtype=torch.float64).reshape(self.size, self.ndim)

    def to_json(self) -> dict[str, Any]:
        return {
            "points": [list(p) for p in self.coordinates],
            "names": list(self.names),
            "units": self.units,
            "dimension": self.dimension,
            **({"axis_units": list(self.axis_units)} if self.axis_units else {}),
        }

    @classmethod
    def from_json(cls, description: dict[str, Any]) -> PointSet:
        return cls(
            tuple(tuple(float(c) for c in p) for p in description["points"]),
            tuple(description["names"]),
            description["units"],
            description["dimension"],
            tuple(description.get("axis_units", ())),
        )


GridLike = Grid | PointSet
"""The domain of a field."""


def grid_from_json(description: dict[str, Any]) -> GridLike:
    """Rebuild a grid or a point set from its description."""
    return Grid.from_json(description) if "axes" in description else PointSet.from_json(description)
