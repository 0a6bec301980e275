"""Whether the parts of a measurement file speak of the same axes in one order, and of the same units."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import xarray as xr

from infield.core.errors import InfieldError
from infield.datasets.formats.field import CHANNEL, Field
from infield.physics.units import NONE, same_units

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


def check_data_units(path: Path, data: xr.DataArray, operator_json: Mapping[str, Any], field: Field) -> None:
    """Refuse data in other units than the field whose values they are; units that one of them leaves out pass.

    Raises:
        InfieldError: Both state units, and they are not the same.
    """
    found = data.attrs["units"]
    if operator_json.get("name") not in VALUES_OF_FIELD or found in NONE or field.units in NONE:
        return
    if not same_units(found, field.units):
        raise InfieldError(
            where=f"{path}: 'data.units'",
            found=f"'{found}'",
            expected=f"those of the field, '{field.units}', whose values the data are",
            remedy="convert one of them (`infield convert table` and `grid` do so: {convert})",
            parameters=["convert"],
        )
