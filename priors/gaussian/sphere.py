"""Points on the unit sphere from longitude and latitude."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from infield.core.errors import InfieldError

LONGITUDE = ("lon", "longitude")
LATITUDE = ("lat", "latitude")


def on_unit_sphere(grid: Any) -> Tensor:
    """Cartesian coordinates of the points of a grid or a set of points, shape `(points, 3)`, float64.

    Longitude and latitude are found by their names, or by their units as CF writes them.

    Arguments:
        grid: Anything with `names` and `points()`; in degrees.

    Raises:
        InfieldError: If longitude or latitude is not there, something else is too, or a latitude lies beyond a pole.
    """
    names = [name.lower() for name in getattr(grid, "names", ())]
    units = [getattr(axis, "units", "") for axis in getattr(grid, "axes", ())]
    units = units or list(getattr(grid, "axis_units", ())) or [""] * len(names)
    roles = list(zip(names, units, strict=True))
    longitude = [i for i, (name, unit) in enumerate(roles) if name in LONGITUDE or unit == "degrees_east"]
    latitude = [i for i, (name, unit) in enumerate(roles) if name in LATITUDE or unit == "degrees_north"]
    if len(longitude) != 1 or len(latitude) != 1 or len(roles) != 2:
        raise InfieldError(
            where="a law on the sphere",
            found=f"coordinates {tuple(names)}",
            expected=(
                "longitude and latitude in degrees, named 'lon' and 'lat' or in units of degrees_east and degrees_north"
            ),
        )
    degrees = grid.points()
    lon, lat = torch.deg2rad(degrees[:, longitude[0]]), torch.deg2rad(degrees[:, latitude[0]])
    beyond = (degrees[:, latitude[0]].abs() > 90 + 1e-9).nonzero()
    if len(beyond):
        raise InfieldError(
            where="a law on the sphere",
            found=f"latitude {float(degrees[int(beyond[0]), latitude[0]])} at point {int(beyond[0])}",
            expected="-90 to 90 degrees",
        )
    return torch.stack([lat.cos() * lon.cos(), lat.cos() * lon.sin(), lat.sin()], dim=1)
