r"""Stationary Matern kernels on the domain as it is: open or periodic axes, the sphere; one length an axis, or rotated.

Every domain is embedded in a Euclidean space, where the law is isotropic with length 1:

    k(x, x') = sigma^2 M_nu(|E(x) - E(x')|).

An open axis enters E as x / l. A periodic axis of period P becomes a circle of radius P / (2 pi l), longitude and
latitude become points of a sphere of radius 1 / l: the distance is then the chord's, and the law is that of a field in
space, seen on the circle or sphere, so it is positive definite for every order. (Of the great-circle distance that
holds for nu <= 1/2 only; Gneiting 2013, Bernoulli 19, 1327.)
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from infield.core.errors import InfieldError
from infield.core.grid import Grid, PointSet

ORDERS = (0.5, 1.5, 2.5)
"""Orders nu in closed form."""

EARTH_RADIUS = 6371.0088
"""Mean radius of the Earth in km (IUGG): lengths on the sphere are given in km."""

DEGREES_EAST = ("degrees_east", "degree_east", "degrees_e", "degree_e")
DEGREES_NORTH = ("degrees_north", "degree_north", "degrees_n", "degree_n")
"""Units by which CF recognises longitude and latitude, lower case."""


JITTER = 1e-10
"""Part of the field's variance that is added to the variance of every datum, so that data without noise at nearly one
place leave covariances invertible: an error of 10^-5 of the field's standard deviation."""


@dataclass(frozen=True)
class Geometry:
    """How positions are embedded in Euclidean space.

    Arguments:
        names: Names of the coordinates.
        units: Their units.
        periods: Period of each coordinate, None for a non-periodic one.
        sphere: Indices of longitude and latitude among the coordinates, in degrees; None off the sphere.
    """

    names: tuple[str, ...]
    units: tuple[str, ...]
    periods: tuple[float | None, ...]
    sphere: tuple[int, int] | None = None

    @classmethod
    def of(cls, grid: Grid | PointSet) -> Geometry:
        """Of a grid or scattered points; two coordinates in degrees east and north lie on the sphere."""
        if isinstance(grid, PointSet):
            units: tuple[str, ...] = grid.axis_units or (grid.units,) * grid.ndim
            periods: tuple[float | None, ...] = (None,) * grid.ndim
        else:
            units = tuple(axis.units for axis in grid.axes)
            periods = tuple(axis.spacing * axis.size if axis.periodic else None for axis in grid.axes)
        east = [i for i, unit in enumerate(units) if unit.lower() in DEGREES_EAST]
        north = [i for i, unit in enumerate(units) if unit.lower() in DEGREES_NORTH]
        return cls(grid.names, units, periods, (east[0], north[0]) if len(east) == len(north) == 1 else None)

    @property
    def ndim(self) -> int:
        """Number of coordinates."""
        return len(self.names)

    @property
    def planar(self) -> tuple[int, ...]:
        """Coordinates that are neither periodic nor on the sphere."""
        return tuple(i for i in range(self.ndim) if self.periods[i] is None and i not in self.on_sphere)

    @property
    def on_sphere(self) -> tuple[int, ...]:
        """Longitude and latitude, in order of appearance."""
        return tuple(sorted(self.sphere or ()))

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """Coordinates that may share a length: those of one unit, longitude with latitude; in order of appearance."""
        groups: dict[str, list[int]] = {}
        for i, unit in enumerate(self.units):
            key = "on the sphere" if self.sphere and i in self.sphere else unit
            groups.setdefault(key, []).append(i)
        return tuple(tuple(group) for group in groups.values())

    def length_units(self, i: int) -> str:
        """Units of a length along coordinate i: km on the sphere, else the coordinate's own, of times without epoch."""
        return "km" if self.sphere and i in self.sphere else self.units[i].partition(" since ")[0]

    def embed(self, x: Tensor, lengths: Tensor, azimuth: Tensor | None = None) -> Tensor:
        """E(x), differentiable in lengths and azimuth.

        Arguments:
            x: Positions, shape `(n, ndim)`.
            lengths: l along each coordinate, shape `(ndim,)`, units of `length_units`.
            azimuth: Angle in radians by which the first two planar coordinates are turned, from the second towards the
                first, before lengths apply; None leaves them.

        Returns:
            Shape `(n, D)`, dimensionless.
        """
        columns: list[Tensor] = []
        place = {i: x[:, i] for i in range(self.ndim)}
        if azimuth is not None:
            first, second = self.planar[:2]
            c, s = azimuth.cos(), azimuth.sin()
            place[first], place[second] = c * x[:, first] - s * x[:, second], s * x[:, first] + c * x[:, second]
        for i, period in enumerate(self.periods):
            if self.sphere and i in self.sphere:
                continue
            if period is None:
                columns.append(place[i] / lengths[i])
            else:
                angle, radius = 2 * math.pi * x[:, i] / period, period / (2 * math.pi * lengths[i])
                columns += [radius * angle.cos(), radius * angle.sin()]
        if self.sphere:
            lon, lat = (torch.deg2rad(x[:, i]) for i in self.sphere)
            radius = EARTH_RADIUS / lengths[self.sphere[0]]
            columns += [radius * lat.cos() * lon.cos(), radius * lat.cos() * lon.sin(), radius * lat.sin()]
        return torch.stack(columns, dim=1)


def matern_unit(distance: Tensor, nu: float) -> Tensor:
    """M_nu at distances r >= 0 in units of the length, nu of `ORDERS`; differentiable, at r = 0 for nu >= 3/2."""
    if nu not in ORDERS:
        raise InfieldError(where="order of a Matern kernel", found=nu, expected=f"one of {', '.join(map(str, ORDERS))}")
    c = math.sqrt(2 * nu)
    decay = torch.exp(-c * distance)
    if nu == 0.5:
        return decay
    if nu == 1.5:
        return torch.addcmul(decay, decay, distance, value=c)
    return torch.addcmul(decay, decay, distance * (1 + c / 3 * distance), value=c)


def matern_slope(distance: Tensor, nu: float) -> Tensor:
    """d M_nu / d(r^2) at distances r; for nu = 1/2, which has a kink at r = 0, zero there."""
    c = math.sqrt(2 * nu)
    decay = torch.exp(-c * distance)
    if nu == 0.5:
        return torch.where(distance > 0, -0.5 * decay / distance, 0.0)
    return -1.5 * decay if nu == 1.5 else -5 / 6 * torch.addcmul(decay, decay, distance, value=c)


@dataclass(frozen=True)
class StationaryLaw:
    """A centred Gaussian law with a Matern covariance, positions embedded by a geometry.

    Arguments:
        geometry: Of the domain.
        nu: Order, one of `ORDERS`.
        variance: sigma^2 of each value, in squared units of the field.
        lengths: l along each coordinate (principal ones where turned), in `geometry.length_units`.
        azimuth: Radians by which the first two planar coordinates are turned; None where they are not.
    """

    geometry: Geometry
    nu: float
    variance: float
    lengths: tuple[float, ...]
    azimuth: float | None = None

    def __post_init__(self) -> None:
        matern_unit(torch.zeros(1), self.nu)
        if not all(0 < value < math.inf for value in (self.variance, *self.lengths)):
            raise InfieldError(
                where="stationary law", found=f"variance {self.variance}, lengths {self.lengths}", expected="positive"
            )

    def embed(self, x: Tensor) -> Tensor:
        """E(x), shape `(n, D)`: positions in correlation lengths, for neighbours by Euclidean distance."""
        azimuth = None if self.azimuth is None else x.new_tensor(self.azimuth)
        return self.geometry.embed(x, x.new_tensor(self.lengths), azimuth)

    def between(self, a: Tensor, b: Tensor) -> Tensor:
        """Covariances between embedded positions `(..., n, D)` and `(..., m, D)`, shape `(..., n, m)`."""
        distance = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist")
        return self.variance * matern_unit(distance, self.nu)

    def to_json(self) -> dict[str, Any]:
        """Its numbers in plain JSON types, with units."""
        lengths = {
            name: {"length": length, "units": self.geometry.length_units(i)}
            for i, (name, length) in enumerate(zip(self.geometry.names, self.lengths, strict=True))
        }
        azimuth = {} if self.azimuth is None else {"azimuth_degrees": math.degrees(self.azimuth)}
        return {"law": "matern", "nu": self.nu, "variance": self.variance, "lengths": lengths, **azimuth}

    @classmethod
    def from_json(cls, geometry: Geometry, entry: Mapping[str, Any]) -> StationaryLaw:
        """The inverse of `to_json`, on the geometry that it was of."""
        lengths = tuple(float(entry["lengths"][name]["length"]) for name in geometry.names)
        degrees = entry.get("azimuth_degrees")
        azimuth = None if degrees is None else math.radians(degrees)
        return cls(geometry, float(entry["nu"]), float(entry["variance"]), lengths, azimuth)
