"""What the instrument saw, made visible: an image, sensors on a map, k-space, or the data carried back to the field."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from infield.core._deepinv import LinearPhysics
from infield.core.grid import Axis, Grid, PointSet
from infield.datasets.formats.field import COMPLEX_CHANNELS, Field
from infield.physics.measurement import Measurement

FOURIER = ("fourier", "multicoil-mri", "multicoil-mri-slices", "deepinv:MRI", "deepinv:MultiCoilMRI")
"""Operators whose data are complex numbers on a grid of frequencies."""


@dataclass(frozen=True)
class View:
    """One scalar field to look at.

    Arguments:
        name: Its name.
        of: From fields `(batch, channel, *space)` to scalars `(batch, *space)`; data of as many channels go the same
            way.
        channel: Its number in the file; None for the magnitude of a complex field.
    """

    name: str
    of: Callable[[Tensor], Tensor]
    channel: int | None


def views_of(field: Field) -> list[View]:
    """The magnitude of a complex field, or every channel of a real one."""
    if field.channels == COMPLEX_CHANNELS:
        return [View("magnitude", lambda x: x.norm(dim=1), None)]
    return [View(name, partial(_channel, c), c) for c, name in enumerate(field.channels)]


def _channel(c: int, x: Tensor) -> Tensor:
    return x[:, c]


@dataclass(frozen=True)
class DataPanel:
    """One picture of data.

    Arguments:
        title: What it shows.
        places: Where its values lie: the field's grid, sensors, or axes that count.
        values: Shape `places.shape`, NaN where nothing was measured.
        in_field_units: Whether the values are the field's own and share its colour scale.
        units: Units of the values.
        colours: Name of their colour map; None for that which suits their signs.
    """

    title: str
    places: Grid | PointSet
    values: np.ndarray
    in_field_units: bool
    units: str
    colours: str | None = None


def data_panels(measurement: Measurement, view: View, units: str) -> list[DataPanel]:
    """Pictures of the data of one view; none where they have no place in space and cannot be carried back to it.

    Arguments:
        units: Units of the data.
    """
    operator, grid, y = measurement.operator, measurement.grid, measurement.y
    data_grid = getattr(operator, "data_grid", None)
    shown = torch.where(measurement.observed, y, torch.nan) if measurement.observed is not None else y
    same_channels = y.shape[1] == len(measurement.channels)
    own = units == measurement.units
    fourier = _name(measurement) in FOURIER
    if not fourier and same_channels and isinstance(data_grid, PointSet) and y.ndim == 3:
        values = view.of(shown)[0].numpy()
        return [DataPanel(f"data: {len(values)} sensors", data_grid, values, own, units)]
    if not fourier and same_channels and tuple(y.shape[2:]) == tuple(grid.shape):
        values = view.of(shown)[0].numpy()
        seen = np.isfinite(values).mean()
        title = "data" if seen == 1 else f"data: {100 * seen:.2g} % of the points"
        return [DataPanel(title, grid, values, own, units)]
    panels = []
    if fourier and isinstance(grid, Grid) and tuple(y.shape[-grid.ndim :]) == tuple(grid.shape):
        leading = tuple(range(y.ndim - grid.ndim))  # real and imaginary part, and the coils
        magnitude = shown.square().sum(leading).sqrt().numpy()
        logarithm = np.log10(np.where(magnitude > 0, magnitude, np.nan))
        title = "data: k-space" + (", all coils" if len(leading) > 2 else "")
        label = "log10" if units == "1" else f"log10 of {units}"
        panels.append(DataPanel(title, _frequencies(grid), logarithm, False, label, "viridis"))
    if isinstance(operator, LinearPhysics):
        back = view.of(operator.A_adjoint(torch.nan_to_num(shown)))[0].numpy()
        title = "zero-filled" if fourier else "data, back-projected"
        panels.append(DataPanel(title, grid, back, False, "1", "gray" if view.channel is None else None))
    return panels


def _name(measurement: Measurement) -> str:
    """Name of the operator that makes the data: of a composition, the outermost."""
    description = measurement.description
    while description.get("name") == "compose":
        description = description["operators"][0]
    return str(description.get("name", ""))


def _frequencies(grid: Grid) -> Grid:
    """Axes of the centred transform, in cycles per unit of the field's axes."""
    axes = []
    for axis in grid.axes:
        steps = (np.arange(axis.size) - axis.size // 2) / (axis.size * axis.spacing)
        axes.append(Axis(f"k_{axis.name}", tuple(steps.tolist()), "1" if axis.units == "1" else f"cycles/{axis.units}"))
    return Grid(tuple(axes))
