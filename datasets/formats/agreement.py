"""Whether the parts of a measurement file have the same axes in one order, and the same units."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from infield.core.errors import InfieldError
from infield.datasets.formats.field import CHANNEL, Field
from infield.datasets.formats.zarr_group import loaded_variable
from infield.physics.units import CIRCLE, LONGITUDE, NONE, same_units

VALUES_OF_FIELD = ("mask", "points")
"""Operators whose data are values of the field itself, in its units."""


def axes_by_name(group: xr.Dataset, field: Field) -> xr.Dataset:
    """A group in which all variables over the field's dimensions have these in the field's order.

    Only names decide: a mask stored along (lon, lat) is exchanged for a field on (lat, lon), whatever the sizes.
    """
    orders = (field.dims, (CHANNEL, *field.dims))
    exchanged = {
        name: group[name].transpose(*order)
        for name in group.data_vars
        for order in orders
        if set(group[name].dims) == set(order) and group[name].dims != order
    }
    return group.assign(exchanged) if exchanged else group


def with_increasing_axes(dataset: xr.Dataset, dims: Iterable[str]) -> xr.Dataset:
    """A dataset in which the coordinates of dimensions increase where they can: those that decrease are turned with all
    that lies along them, and longitudes that cross the date line continue beyond 180 degrees."""
    for name in dims:
        if name not in dataset.variables or dataset[name].dims != (name,) or dataset[name].dtype.kind not in "iuf":
            continue
        coordinate = dataset[name]
        values = coordinate.values.astype(np.float64)
        if coordinate.attrs.get("units") in LONGITUDE and not _monotonic(values):
            values = np.unwrap(values, period=CIRCLE)
            if _monotonic(values) and np.ptp(values) < CIRCLE:
                dataset = dataset.assign_coords({name: (name, values, coordinate.attrs)})
        if len(values) > 1 and (np.diff(values) < 0).all():
            dataset = dataset.isel({name: slice(None, None, -1)})
    return dataset


def turn_axes(path: Path, group: xr.Dataset, operator_json: Mapping[str, Any], dims: object) -> xr.Dataset:
    """A measurement file with increasing axes, as `with_increasing_axes`.

    Raises:
        InfieldError: An axis decreases, and data or operator are not laid out along it by name.
    """
    names = [name for name in dims if isinstance(name, str)] if isinstance(dims, list) else []
    arrays = operator_json.get("arrays")
    named = arrays if isinstance(arrays, Mapping) else {}
    along = ["data", *map(str, named.values())]
    for name in names:
        falling = name in group.variables and group[name].dims == (name,) and group[name].dtype.kind in "iuf"
        if falling:
            values = loaded_variable(path, group, name).values
            falling = len(values) > 1 and bool((np.diff(values) < 0).all())
        by_position = operator_json.get("name") == "points" and list(named) == ["coordinates"]
        by_name = operator_json.get("name") == "mask" and all(v in group and name in group[v].dims for v in along)
        if falling and not by_position and not by_name:
            raise InfieldError(
                where=f"{path}: '{name}'",
                found=f"decreasing coordinates under the operator '{operator_json.get('name')}'",
                expected="increasing ones",
                remedy="write field, operator and data in the order of increasing positions",
            )
    return with_increasing_axes(group, names)


def _monotonic(values: np.ndarray) -> bool:
    steps = np.diff(values)
    return bool((steps > 0).all() or (steps < 0).all())


def check_data_units(path: Path, data: xr.DataArray, operator_json: Mapping[str, Any], field: Field) -> None:
    """Refuse data in other units than the field whose values they are; units that one of them leaves out pass.

    Raises:
        InfieldError: Both state units, and they are not the same.
    """
    found = data.attrs["units"]
    parts = operator_json.get("operators") if operator_json.get("name") == "stack" else [operator_json]
    names = {part.get("name") for part in (parts if isinstance(parts, list) else ()) if isinstance(part, Mapping)}
    if not names & set(VALUES_OF_FIELD) or found in NONE or field.units in NONE:
        return
    if not same_units(found, field.units):
        raise InfieldError(
            where=f"{path}: 'data.units'",
            found=f"'{found}'",
            expected=f"those of the field, '{field.units}', whose values the data are",
            remedy="convert one of them (`infield convert table` and `grid` do so: {convert})",
            parameters=["convert"],
        )
