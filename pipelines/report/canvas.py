"""One scalar field on one pair of axes: a line, an image or coloured points, with names, units and a colour bar."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from infield.core.grid import Axis, Grid, PointSet

STYLE: Any = {
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.labelsize": 9.5,
    "xtick.labelsize": 8.5,
    "ytick.labelsize": 8.5,
    "legend.fontsize": 9,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "image.interpolation": "nearest",
}
WIDTH = 11.0
"""Width of a page in inches; letters then come out at about 13 pixels."""

INK, MEAN, TRUTH, DATA, DRAW = "#222222", "#0072B2", "#000000", "#D55E00", "#56B4E9"
"""Okabe and Ito's colours, which colour-blind readers can distinguish."""

VERTICAL = ("y", "z", "lat", "latitude", "north", "northing", "height", "depth")
"""Names of coordinates that go upwards where they come first; otherwise the first goes to the right."""

LATITUDES = ("lat", "latitude")

UNSEEN = "#cfcfcf"
"""Where nothing was measured."""


@dataclass(frozen=True)
class Scale:
    """A colour scale that several panels share."""

    low: float
    high: float
    colours: str

    @classmethod
    def of(cls, *fields: np.ndarray, colours: str | None = None) -> Scale:
        """The range of the fields: around 0 in red and blue where they take both signs, else sequential.

        One value in a hundred lies beyond it at either end, so that a few corners do not take up the scale.
        """
        values = np.concatenate([f[np.isfinite(f)].ravel() for f in fields])
        low, high = (float(v) for v in np.quantile(values, [0.01, 0.99])) if values.size else (0.0, 1.0)
        if colours is None and low < 0 < high and min(-low, high) > 0.25 * max(-low, high):
            reach = max(-low, high)
            return cls(-reach, reach, "RdBu_r")
        return cls(low, high if high > low else low + 1.0, colours or "viridis")


def with_units(name: str, units: str) -> str:
    """A label such as `temperature (K)`."""
    return name if units in ("1", "") else f"{name} ({units})"


def kind_of(grid: Grid | PointSet) -> Literal["line", "image", "points"]:
    """How fields on this grid are drawn; of three axes, a slice of two is."""
    if grid.ndim == 1:
        return "line"
    return "image" if isinstance(grid, Grid) else "points"


def central_slice(grid: Grid | PointSet, values: np.ndarray, axis: int = 0) -> tuple[Grid | PointSet, np.ndarray, str]:
    """A field of three or more axes in the middle of all but two of them; others as they are.

    Returns:
        The grid of the slice, its values, and a description of its position.
    """
    if not isinstance(grid, Grid) or grid.ndim < 3:
        return grid, values, ""
    kept = [i for i in range(grid.ndim) if i != axis][-2:]
    cut = [i for i in range(grid.ndim) if i not in kept]
    where = ", ".join(_place(grid.axes[i]) for i in cut)
    index = tuple(slice(None) if i in kept else grid.shape[i] // 2 for i in range(grid.ndim))
    return Grid(tuple(grid.axes[i] for i in kept)), values[index], where


def _place(axis: Axis) -> str:
    units = "" if axis.units == "1" else f" {axis.units}"
    return f"{axis.name} = {axis.coordinates[axis.size // 2]:.4g}{units}"


def picture(figure: Figure, ax: Axes, grid: Grid | PointSet, values: np.ndarray, scale: Scale, label: str) -> None:
    """Draw a field on two axes, shape `grid.shape`, or on scattered points; NaN where nothing was measured.

    Arguments:
        label: Of the colour bar.
    """
    look: dict[str, Any] = {"cmap": scale.colours, "vmin": scale.low, "vmax": scale.high, "rasterized": True}
    ax.set_facecolor(UNSEEN)
    if isinstance(grid, Grid):
        drawn = _image(ax, grid, values, look)
    else:
        drawn = _scatter(ax, grid, values, look)
    _colour_bar(figure, ax, drawn, label)


def sensors(
    figure: Figure, ax: Axes, grid: Grid | PointSet, places: PointSet, values: np.ndarray, scale: Scale, label: str
) -> None:
    """Data at scattered places in the frame of a field; of three axes, the last two are kept."""
    look: dict[str, Any] = {"cmap": scale.colours, "vmin": scale.low, "vmax": scale.high, "rasterized": True}
    ax.set_facecolor(UNSEEN)
    drawn = _scatter(ax, places, values, look)
    if isinstance(grid, Grid):
        _frame(ax, grid)
    _colour_bar(figure, ax, drawn, label)


def _colour_bar(figure: Figure, ax: Axes, drawn: Any, label: str) -> None:
    bar = figure.colorbar(drawn, cax=ax.inset_axes((1.04, 0.0, 0.05, 1.0)), label=label, extend="both", extendfrac=0.04)
    bar.outline.set_visible(False)


def _scatter(ax: Axes, places: PointSet, values: np.ndarray, look: dict[str, Any]) -> Any:
    vertical, horizontal = (0, 1) if places.names[-2:][0] in VERTICAL else (1, 0)
    points, names = places.points().numpy()[:, -2:], places.names[-2:]
    size = float(np.clip(5000 / len(points), 3, 30))
    drawn = ax.scatter(
        points[:, horizontal], points[:, vertical], c=values, s=size, linewidths=0.3, edgecolors="#00000055", **look
    )
    label_axes(ax, names[horizontal], names[vertical], places.units, places.units)
    if 0.2 < np.ptp(points[:, vertical]) / max(np.ptp(points[:, horizontal]), 1e-30) < 5:
        middle = (points[:, vertical].min() + points[:, vertical].max()) / 2
        ax.set_aspect(degree_aspect(names[vertical], places.units, float(middle)))
    return drawn


def _image(ax: Axes, grid: Grid, values: np.ndarray, look: dict[str, Any]) -> Any:
    rows, columns = grid.axes
    if rows.uniform and columns.uniform:
        extent = (*_edges(columns), *_edges(rows))
        drawn: Any = ax.imshow(values, origin="lower", extent=extent, **look)
    else:
        drawn = ax.pcolormesh(columns.coordinates, rows.coordinates, values, shading="nearest", **look)
    _frame(ax, grid)
    return drawn


def _frame(ax: Axes, grid: Grid) -> None:
    """Limits, labels and aspect of a field's last two axes; pixels count downwards, as images have it."""
    rows, columns = grid.axes[-2:]
    (bottom, top), (left, right) = _edges(rows), _edges(columns)
    ax.set_xlim(left, right)
    ax.set_ylim(*((top, bottom) if rows.units == "pixel" else (bottom, top)))
    equal = same_length(rows.name, rows.units, columns.units) and 0.2 < abs((top - bottom) / (right - left)) < 5
    ax.set_aspect(degree_aspect(rows.name, rows.units, (top + bottom) / 2) if equal else "auto")
    label_axes(ax, columns.name, rows.name, columns.units, rows.units)


def same_length(vertical: str, units: str, other: str) -> bool:
    """Whether a unit along one axis is a length that is known beside one along the other."""
    return units == other or (vertical in LATITUDES and units.startswith("degree") and other.startswith("degree"))


def degree_aspect(vertical: str, units: str, middle: float) -> float:
    """Height of a unit of the vertical axis over the width of one of the other: of maps, 1 / cos(latitude)."""
    if vertical not in LATITUDES or not units.startswith("degree") or abs(middle) > 85:
        return 1.0
    return 1 / math.cos(math.radians(middle))


def label_axes(ax: Axes, x: str, y: str, x_units: str, y_units: str) -> None:
    """Names and units on both axes."""
    ax.set_xlabel(with_units(x, x_units))
    ax.set_ylabel(with_units(y, y_units))


def _edges(axis: Axis) -> tuple[float, float]:
    """Outer edges of an axis, half a cell beyond its first and last point."""
    half = axis.spacing / 2
    return axis.coordinates[0] - half, axis.coordinates[-1] + half
