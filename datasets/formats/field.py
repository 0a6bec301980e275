"""The field of a file: its grid or points, channels and units, as coordinate variables and the attribute `field`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from infield.core.errors import InfieldError
from infield.core.grid import Axis, Grid, PointSet, snap
from infield.datasets.formats.zarr_group import json_attribute, refusal, variable
from infield.physics.units import on_earth

CHANNEL = "channel"
COMPLEX_CHANNELS = ("real", "imag")


@dataclass(frozen=True)
class Field:
    """Metadata of the unknown field in a file.

    Arguments:
        grid: Its domain.
        channels: Names of its channels; `("real", "imag")` for a complex field.
        units: Units of its values.
    """

    grid: Grid | PointSet
    channels: tuple[str, ...]
    units: str

    @property
    def dims(self) -> tuple[str, ...]:
        """Names of the space dimensions."""
        return self.grid.names if isinstance(self.grid, Grid) else (self.grid.dimension,)

    def attribute(self) -> str:
        """The group attribute `field`."""
        description: dict[str, Any] = {"dims": self.dims, "channels": self.channels, "units": self.units}
        if isinstance(self.grid, PointSet):
            description["coordinates"] = self.grid.names
        return json.dumps(description)

    def coordinates(self) -> dict[str, xr.Variable]:
        """Coordinate variables of the space dimensions, and of the channels where there are several.

        Values are indexes of pandas or given as they are: to look at others xarray imports Dask's arrays.
        """
        variables: dict[str, xr.Variable] = {}
        if isinstance(self.grid, Grid):
            for axis in self.grid.axes:
                attributes = {"units": axis.units, "periodic": int(axis.periodic)}
                variables[axis.name] = xr.Variable((axis.name,), pd.Index(axis.coordinates, dtype=float), attributes)
        else:
            points = np.array(self.grid.coordinates, dtype=float).reshape(self.grid.size, self.grid.ndim)
            units = self.grid.axis_units or (self.grid.units,) * self.grid.ndim
            for name, column, unit in zip(self.grid.names, points.T, units, strict=True):
                variables[name] = xr.Variable((self.grid.dimension,), column, {"units": unit}, fastpath=True)
        if len(self.channels) > 1:
            codes = np.arange(len(self.channels), dtype=np.int32)
            meanings = " ".join("_".join(name.split()) for name in self.channels)
            variables[CHANNEL] = xr.Variable(
                (CHANNEL,), pd.Index(codes), {"flag_values": codes, "flag_meanings": meanings}
            )
        return variables


def read_field(path: Path, group: xr.Dataset) -> Field:
    """Read the attribute `field` and the coordinates that it names.

    Raises:
        InfieldError: A key or a coordinate variable is missing, or one of them is not as specified.
    """
    description = json_attribute(path, group, "field")
    dims = _names(path, description, "dims")
    channels = _names(path, description, "channels")
    units = description.get("units")
    if not isinstance(units, str):
        raise refusal(path, "field.units", repr(units), "the units of the field as text, '1' for none")
    scattered = "coordinates" in description
    if scattered and len(dims) != 1:
        raise refusal(path, "field.dims", list(dims), "one dimension, along which the scattered points are listed")
    try:
        grid = _read_points(path, group, dims[0], description) if scattered else _read_grid(path, group, dims)
    except InfieldError as error:
        raise error.within(path) from error
    return Field(grid, channels, units)


def _names(path: Path, description: dict[str, Any], key: str) -> tuple[str, ...]:
    names = description.get(key)
    if not isinstance(names, list) or not names or not all(isinstance(n, str) and n for n in names):
        raise refusal(path, f"field.{key}", repr(names), "a list of names")
    if len(set(names)) < len(names):
        raise refusal(path, f"field.{key}", names, "names that differ")
    return tuple(names)


def _read_grid(path: Path, group: xr.Dataset, dims: tuple[str, ...]) -> Grid:
    axes = []
    for name in dims:
        column, units = _column(path, group, name, name)
        column = tuple(snap(np.array(column)).tolist())
        periodic = group[name].attrs.get("periodic", 0)
        if periodic not in (0, 1):
            raise refusal(path, f"{name}.periodic", repr(periodic), "0 or 1")
        axes.append(Axis(name, column, units, bool(periodic)))
    return Grid(tuple(axes))


def _read_points(path: Path, group: xr.Dataset, dimension: str, description: dict[str, Any]) -> PointSet:
    names = _names(path, description, "coordinates")
    columns, units = zip(*(_column(path, group, name, dimension) for name in names), strict=True)
    if len(set(units)) > 1 and len(units) == 2 and on_earth(units):
        return PointSet(tuple(zip(*columns, strict=True)), names, "degrees", dimension, units)
    if len(set(units)) > 1:
        raise refusal(path, f"{names[1]}.units", " and ".join(sorted(set(units))), "the same units for all coordinates")
    return PointSet(tuple(zip(*columns, strict=True)), names, units[0], dimension)


def _column(path: Path, group: xr.Dataset, name: str, dimension: str) -> tuple[tuple[float, ...], str]:
    values = variable(path, group, name)
    if values.dims != (dimension,) or values.dtype.kind == "c":
        raise refusal(path, name, f"{values.dtype} along {values.dims}", f"real numbers along ('{dimension}',)")
    units = values.attrs.get("units")
    if not isinstance(units, str):
        raise refusal(path, f"{name}.units", repr(units), "the units of the coordinate as text, '1' for none")
    return tuple(float(v) for v in values.values), units
