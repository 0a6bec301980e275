"""Places of a table along the axes of a field that exists: axes matched by kind and name, units converted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from infield.core.errors import InfieldError
from infield.core.grid import Axis, Grid
from infield.datasets.formats.field import Field
from infield.datasets.formats.measurement import open_measurement
from infield.datasets.tables.axes import Column, kind_of
from infield.physics.units import CIRCLE, LONGITUDE, NONE, conversion


def field_of(path: Path) -> Field:
    """The field of a measurement file.

    Raises:
        InfieldError: It is none, or has several variables.
    """
    measurement = open_measurement(path)
    if len(measurement.channels) > 1:
        raise InfieldError(where=path, found=f"a field of {len(measurement.channels)} variables", expected="one")
    return Field(measurement.grid, measurement.channels, measurement.units)


def grid_of(field: Field) -> Grid:
    """Its regular grid.

    Raises:
        InfieldError: It is given on scattered points.
    """
    if not isinstance(field.grid, Grid):
        raise InfieldError(where="{onto}", found="a field on scattered points", expected="a grid", parameters=["onto"])
    return field.grid


def time_units(field: Field, kind: str) -> str | None:
    """Units of the field's axis of times, where a column is one."""
    axes = [axis for axis in grid_of(field).axes if " since " in axis.units]
    return axes[0].units if kind == "time" and axes else None


def along(columns: Sequence[Column], field: Field) -> tuple[list[Column], np.ndarray]:
    """The columns in the order of the field's axes and in their units, and which rows lie in its domain.

    Raises:
        InfieldError: An axis has no column, a column no axis, or their units measure different things.
    """
    grid, left, found = grid_of(field), list(columns), []
    for axis in grid.axes:
        matching = [c for c in left if c.name == axis.name] or [c for c in left if c.kind == _kind(axis) != "other"]
        if not matching:
            raise InfieldError(
                where="{at}", found=", ".join(c.name for c in columns), expected=f"a column for the axis '{axis.name}'",
                parameters=["at"],
            )  # fmt: skip
        left.remove(matching[0])
        found.append(_in_units(matching[0], axis))
    if left:
        raise InfieldError(
            where="{at}", found=f"'{left[0].name}'", expected=f"the axes {', '.join(grid.names)}", parameters=["at"]
        )
    inside = np.all([_inside(c.values, axis) for c, axis in zip(found, grid.axes, strict=True)], axis=0)
    return found, inside


def _kind(axis: Axis) -> str:
    return kind_of(axis.name, {"units": axis.units})


def _in_units(column: Column, axis: Axis) -> Column:
    values = column.values
    if column.units != axis.units and column.units not in NONE and axis.units not in NONE:
        if column.kind not in ("longitude", "latitude", "time"):
            values = conversion(column.units, axis.units)(values)
        elif column.kind == "time":
            raise InfieldError(
                where=f"axis '{axis.name}'", found=f"'{column.units}'", expected=f"'{axis.units}'",
                remedy="state the units of the times ({at_units})", parameters=["at_units"],
            )  # fmt: skip
    if axis.units in LONGITUDE and not axis.periodic:
        middle = 0.5 * (axis.coordinates[0] + axis.coordinates[-1])
        values = middle + np.mod(values - middle + CIRCLE / 2, CIRCLE) - CIRCLE / 2
    return replace(column, name=axis.name, values=values, units=axis.units, periodic=axis.periodic)


def _inside(values: np.ndarray, axis: Axis) -> np.ndarray:
    if axis.periodic:
        return np.ones(len(values), dtype=bool)
    slack = 0.5 * axis.spacing
    return (values >= axis.coordinates[0] - slack) & (values <= axis.coordinates[-1] + slack)
