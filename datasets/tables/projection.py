r"""Degrees made kilometres around one point: the azimuthal equidistant projection of a sphere.

Snyder 1987, "Map projections: a working manual" (USGS Professional Paper 1395), p. 195: with latitude :math:`\phi`,
longitude :math:`\lambda`, and the centre at :math:`(\phi_1, \lambda_0)`,

    cos c = sin phi_1 sin phi + cos phi_1 cos phi cos(lambda - lambda_0)                                (5-3)
    k' = c / sin c                                                                                      (25-2)
    x = R k' cos phi sin(lambda - lambda_0)                                                             (22-4)
    y = R k' [cos phi_1 sin phi - sin phi_1 cos phi cos(lambda - lambda_0)]                             (22-5)

Distances from the centre are true; across them lengths are k' times too long: 0.4 % at 1000 km, 1.7 % at 2000 km. A
sphere of the Earth's mean radius stands for the ellipsoid, within 0.6 %.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from infield.core.errors import InfieldError
from infield.core.extras import require

RADIUS_KM = 6371.0088
"""Mean radius of the Earth (IUGG)."""

MAX_STRETCH = 1.02
"""Of lengths at the data that are farthest from the centre, beyond which a plane is no picture of the sphere."""


def azimuthal_equidistant(
    longitude: np.ndarray, latitude: np.ndarray, centre: tuple[float, float]
) -> tuple[np.ndarray, np.ndarray, float]:
    """Kilometres east and north of a centre.

    Arguments:
        longitude, latitude: In degrees; NaN stays.
        centre: Longitude and latitude in degrees.

    Returns:
        x, y and the largest stretch k'.

    Raises:
        InfieldError: Data lie so far from the centre that lengths are stretched by more than `MAX_STRETCH`.
    """
    lambda_, phi = np.radians(longitude - centre[0]), np.radians(latitude)
    phi_1 = np.radians(centre[1])
    # c by its half, which is exact for small distances as (5-3) is not
    half = np.sin((phi - phi_1) / 2) ** 2 + np.cos(phi_1) * np.cos(phi) * np.sin(lambda_ / 2) ** 2
    c = 2 * np.arcsin(np.sqrt(np.clip(half, 0, 1)))
    k = np.where(c > 0, c / np.where(c > 0, np.sin(c), 1), 1.0)
    stretch = float(np.nanmax(k))
    if not 1 <= stretch <= MAX_STRETCH:
        raise InfieldError(
            where="projection",
            found=f"data up to {RADIUS_KM * np.nanmax(c):.0f} km from their centre, where lengths are stretched by "
            f"{stretch - 1:.1%}",
            expected=f"at most {MAX_STRETCH - 1:.0%}",
            remedy="keep degrees (leave {project} out), or part the data",
            parameters=["project"],
        )
    x = RADIUS_KM * k * np.cos(phi) * np.sin(lambda_)
    y = RADIUS_KM * k * (np.cos(phi_1) * np.sin(phi) - np.sin(phi_1) * np.cos(phi) * np.cos(lambda_))
    return x, y, stretch


def centre_of(longitude: np.ndarray, latitude: np.ndarray) -> tuple[float, float]:
    """The middle of the data's extent, to a tenth of a degree; longitudes on one piece."""
    middle = (0.5 * (np.nanmin(v) + np.nanmax(v)) for v in (longitude, latitude))
    lon, lat = (round(float(m), 1) for m in middle)
    return lon, lat


def grid_mapping(centre: tuple[float, float]) -> dict[str, Any]:
    """The projection as CF describes it."""
    return {
        "grid_mapping_name": "azimuthal_equidistant",
        "longitude_of_projection_origin": centre[0],
        "latitude_of_projection_origin": centre[1],
        "false_easting": 0.0,
        "false_northing": 0.0,
        "earth_radius": RADIUS_KM * 1000,
    }


def reference_system(name: str) -> tuple[dict[str, Any], tuple[str, str], bool]:
    """A coordinate reference system, e.g. "EPSG:25832", as CF describes it; needs pyproj (the extra `maps`).

    Returns:
        Attributes of a grid mapping, units of the two horizontal axes (x first), and whether these are degrees.

    Raises:
        InfieldError: pyproj is not installed, or has no such system of two horizontal axes.
    """
    pyproj = require("pyproj", "maps", where="coordinate reference system")
    try:
        system = pyproj.CRS.from_user_input(name)
    except pyproj.exceptions.CRSError as error:
        raise InfieldError(
            where="{crs}", found=f"'{name}'", expected="one of PROJ's, e.g. EPSG:25832", parameters=["crs"]
        ) from error
    axes = {axis.direction: axis.unit_name for axis in system.axis_info}
    if system.is_geographic:
        return dict(system.to_cf()), ("degrees_east", "degrees_north"), True
    if not system.is_projected or not {"east", "north"} <= set(axes):
        raise InfieldError(
            where="{crs}", found=f"'{name}', {system.type_name}", expected="one with axes east and north",
            parameters=["crs"],
        )  # fmt: skip
    east, north = ("m" if axes[d] == "metre" else axes[d] for d in ("east", "north"))
    return dict(system.to_cf()), (east, north), False
