"""The axes of places: which is longitude, latitude or time, in which units, and where longitudes are cut open."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from infield.core.errors import InfieldError
from infield.physics.units import CIRCLE, LATITUDE, LONGITUDE

NAMES = {
    "longitude": re.compile(r"(?i)(.*_)?(lon|long|lng|longitude)(_?deg(rees)?(_east)?)?$"),
    "latitude": re.compile(r"(?i)(.*_)?(lat|latitude)(_?deg(rees)?(_north)?)?$"),
    "time": re.compile(r"(?i)(.*_)?(time|date|datetime|timestamp|day)$"),
}
ORDER = ("time", "vertical", "other", "latitude", "longitude")
"""Of axes, slowest first, as CF recommends it."""

SPACING_RTOL = 1e-9


@dataclass(frozen=True)
class Column:
    """Positions along one axis.

    Arguments:
        name: Of the axis.
        values: A number for each datum, NaN where there is none.
        units: As CF writes them; "1" for none.
        kind: "longitude", "latitude", "time", "vertical" or "other".
        attributes: Further CF attributes (`standard_name`, `calendar`, ...).
        periodic: Whether the axis is periodic, with the period `CIRCLE`.
    """

    name: str
    values: np.ndarray
    units: str
    kind: str = "other"
    attributes: Mapping[str, Any] = field(default_factory=dict)
    periodic: bool = False


def kind_of(name: str, attributes: Mapping[str, Any]) -> str:
    """What an axis is: by its CF attributes where it has them, else by its name."""
    standard, units = str(attributes.get("standard_name", "")), str(attributes.get("units", ""))
    if standard in ("longitude", "latitude", "time"):
        return standard
    if units in LONGITUDE or units in LATITUDE:
        return "longitude" if units in LONGITUDE else "latitude"
    if " since " in units:
        return "time"
    if standard.startswith("projection_"):
        return "other"
    if str(attributes.get("positive", "")).lower() in ("up", "down") or attributes.get("axis") == "Z":
        return "vertical"
    return next((kind for kind, names in NAMES.items() if names.match(name)), "other")


RADIANS = ("radian", "radians", "rad")


def in_degrees(source: object, column: Column) -> tuple[Column, str]:
    """Longitudes and latitudes in degrees, whether their file states degrees, radians or nothing; others as they are.

    Returns:
        The column, and what was assumed of it; empty where it is stated.

    Raises:
        InfieldError: They lie outside of the sphere.
    """
    if column.kind not in ("longitude", "latitude"):
        return column, ""
    degrees = "degrees_east" if column.kind == "longitude" else "degrees_north"
    note = ""
    if column.units in RADIANS:
        column = replace(column, values=np.degrees(column.values), units=degrees)
        note = f"'{column.name}' converted from radians to degrees"
    elif column.units in ("1", ""):
        if len(beyond(column.kind, column.values)):
            return replace(column, kind="other"), f"warning: '{column.name}' has no units and holds no degrees"
        column, note = replace(column, units=degrees), f"'{column.name}' has no units: taken as degrees, by its name"
    elif column.units in ("degrees", "degree", "deg"):
        column = replace(column, units=degrees)
    outside = beyond(column.kind, column.values) if column.units.startswith("degree") else np.empty(0)
    if len(outside):
        raise InfieldError(
            where=f"{source}: '{column.name}'",
            found=f"a {column.kind} of {outside[0]:g} (and {len(outside) - 1} more outside)",
            expected="degrees on the sphere, as its units say",
            remedy="mend the coordinate or its units in the file",
        )
    return column, note


def beyond(kind: str, values: np.ndarray) -> np.ndarray:
    """Those of some numbers that are no latitudes, or no longitudes, in degrees."""
    low, high = RANGES[kind]
    return values[(values < low - 1e-6) | (values > high + 1e-6)]


RANGES = {"latitude": (-90.0, 90.0), "longitude": (-360.0, 720.0)}


def check_degrees(source: object, name: str, kind: str, values: np.ndarray) -> None:
    """Refuse numbers that are no longitudes or latitudes.

    Raises:
        InfieldError: One lies outside.
    """
    outside, (low, high) = beyond(kind, values), RANGES[kind]
    if len(outside):
        raise InfieldError(
            where=f"{source}: '{name}'",
            found=f"a {kind} of {outside[0]:g} (and {len(outside) - 1} more outside)",
            expected=f"degrees from {low:g} to {high:g}",
            remedy="state its units if it is none ({at_units}), or what stands for missing ({missing})",
            parameters=["at_units", "missing"],
        )


def in_order(columns: list[Column]) -> list[Column]:
    """The axes slowest first: time, height, others in reversed order of their mention, latitude, longitude."""
    reverse = [replace(c, kind="other") if c.kind not in ORDER else c for c in reversed(columns)]
    return sorted(reverse, key=lambda column: ORDER.index(column.kind))


def widest_gap(longitudes: np.ndarray) -> tuple[float, float]:
    """The widest part of the circle without data: its width, and the longitude (0 to 360) at which data begin again."""
    around = np.unique(np.mod(longitudes, CIRCLE))
    gaps = np.diff(np.append(around, around[0] + CIRCLE))
    widest = int(gaps.argmax())
    return float(gaps[widest]), float(around[(widest + 1) % len(around)])


def cut_open(column: Column, step: float, wrap: float | None = None, closed: bool | None = None) -> tuple[Column, str]:
    """Longitudes as one piece: turned where they go around the cut of their file, closed where they fill the circle.

    Data that leave half of the circle empty lie on one piece, and there is no doubt about the cut. Data that fill the
    circle but for two steps of the grid lie on a periodic axis.

    Arguments:
        column: Longitudes in degrees.
        step: Spacing of the grid.
        wrap: First longitude of the piece, if the caller gives it.
        closed: Whether the axis is periodic, if the caller gives it.

    Returns:
        The column, and one line of what was done; empty where nothing was.

    Raises:
        InfieldError: The data go around the file's cut and fill more than half of the circle; or a closed axis has a
            step that does not divide the circle.
    """
    values = column.values
    finite = values[np.isfinite(values)]
    extent = float(np.ptp(finite))
    gap, begin = widest_gap(finite)
    divides = abs(round(CIRCLE / step) * step - CIRCLE) < 1e-6 * CIRCLE
    if closed is None:
        closed = wrap is None and gap <= 2 * step and divides
    if closed:
        if not divides:
            raise InfieldError(
                where=f"axis '{column.name}'",
                found=f"a step of {step:g} degrees",
                expected="one that divides the circle of 360",
                remedy="choose another ({grid}), or cut the circle open ({wrap})",
                parameters=["grid", "wrap"],
            )
        first = min(0.0, float(finite.min())) if extent < CIRCLE else 0.0
        return replace(column, values=_from(values, first), periodic=True), f"'{column.name}' goes around the circle"
    if wrap is not None:
        return replace(column, values=_from(values, wrap)), f"'{column.name}' begins at {wrap:g}"
    if extent <= CIRCLE - gap + SPACING_RTOL:
        return column, ""
    if gap <= CIRCLE / 2:
        raise InfieldError(
            where=f"axis '{column.name}'",
            found=f"longitudes on both sides of the cut at {finite.min():g}, and the widest part without data "
            f"{gap:g} degrees wide up to {begin:g}",
            expected="data within half of the circle",
            remedy="give where the circle is cut open ({wrap}, a longitude), or that it is closed ({circle})",
            parameters={"wrap": None, "circle": "closed"},
        )
    start = begin if begin <= CIRCLE / 2 else begin - CIRCLE
    turned = _from(values, start)
    low, high = float(np.nanmin(turned)), float(np.nanmax(turned))
    return replace(column, values=turned), f"'{column.name}' turned to {low:g} to {high:g}"


def _from(values: np.ndarray, first: float) -> np.ndarray:
    """Longitudes in [first, first + 360); what is there already stays bit for bit."""
    inside = (values >= first) & (values < first + CIRCLE)
    turns = np.floor((values - first) / CIRCLE)
    return np.where(inside | ~np.isfinite(values), values, values - CIRCLE * np.nan_to_num(turns))


def grid_line(column: Column, step: float) -> tuple[float, ...]:
    """Multiples of a step that cover all positions; of a closed circle, those of one turn.

    Raises:
        InfieldError: All data lie on one of them, so that there is no axis.
    """
    finite = column.values[np.isfinite(column.values)]
    if column.periodic:
        first = math.floor(float(finite.min()) / step + SPACING_RTOL)
        return tuple(_rounded((first + i) * step) for i in range(round(CIRCLE / step)))
    low = math.floor(float(finite.min()) / step + SPACING_RTOL)
    high = math.ceil(float(finite.max()) / step - SPACING_RTOL)
    if high <= low:
        raise InfieldError(
            where=f"axis '{column.name}'",
            found=f"one cell: all data at {finite.min():g} ({column.units})",
            expected="at least two",
            remedy="leave this axis out ({at})" + (", or take a smaller step ({grid})" if np.ptp(finite) > 0 else ""),
            parameters=["at", "grid"],
        )
    return tuple(_rounded(i * step) for i in range(low, high + 1))


def _rounded(value: float) -> float:
    """Without the last digits of a product: 3 * 0.1 is 0.3."""
    return float(f"{value:.12g}")
