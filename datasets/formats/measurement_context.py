"""The context of a measurement in its file: numbers and fields beside the data, named by the attribute `context`."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from infield.datasets.formats.field import CHANNEL, Field
from infield.datasets.formats.zarr_group import json_attribute, loaded_variable, refusal, variable
from infield.physics.context import Quantity

KEY = "context"
SINCE = 2
"""The version of a measurement file with a context; one without stays of version 1."""


def read_context(path: Path, group: xr.Dataset, field: Field, named: Collection[str]) -> dict[str, Quantity]:
    """Read what a file holds of its field beside the data.

    Arguments:
        path: Directory of the group.
        group: As it was opened.
        field: Of the measurement.
        named: Variables that its operator and its noise name.

    Returns:
        Quantities by name. Of a file without the attribute `context`: the variables of one finite number that nothing
        names.

    Raises:
        InfieldError: The attribute names a variable that is missing or neither a number nor a field on the grid, or has
            no units; or the file is marked as version 1.
    """
    if KEY not in group.attrs:
        return _carried_numbers(path, group, {"data", "observed", "truth", *named})
    version = group.attrs["infield_version"]
    if version < SINCE:
        raise refusal(path, KEY, f"it in a file of version {version}", f"'infield_version' {SINCE}")
    return {name: _quantity(path, group, field, name, of) for name, of in json_attribute(path, group, KEY).items()}


def _quantity(path: Path, group: xr.Dataset, field: Field, name: str, of: object) -> Quantity:
    if not isinstance(of, str):
        raise refusal(path, f"{KEY}.{name}", repr(of), "the name of a variable")
    values = variable(path, group, of)
    units = values.attrs.get("units")
    if not isinstance(units, str):
        raise refusal(path, f"{of}.units", repr(units), "the units of the quantity as text, '1' for none")
    if values.ndim == 0 and values.dtype.kind != "c":
        return Quantity(float(values), units)
    channels = values.ndim - len(field.dims)
    expected = f"a real number, or a field along {field.dims} of shape {field.grid.shape} (channels first)"
    if channels not in (0, 1) or values.dims[channels:] != field.dims or values.shape[channels:] != field.grid.shape:
        raise refusal(path, of, f"{values.dtype} along {values.dims} of shape {values.shape}", expected)
    if values.dtype.kind == "c" and channels:
        raise refusal(path, of, f"complex values along {values.dims}", f"a complex field along {field.dims}")
    array = np.asarray(values.values)
    parts = np.stack([array.real, array.imag]) if np.iscomplexobj(array) else array if channels else array[None]
    return Quantity(torch.from_numpy(np.ascontiguousarray(parts, dtype=np.float64))[None], units)


def _carried_numbers(path: Path, group: xr.Dataset, named: Collection[str]) -> dict[str, Quantity]:
    names = [n for n, v in group.data_vars.items() if n not in named and v.ndim == 0 and v.dtype.kind in "biuf"]
    found = {str(name): loaded_variable(path, group, str(name)) for name in names}
    units = {name: str(values.attrs.get("units", "1")) for name, values in found.items()}
    return {name: Quantity(float(values), units[name]) for name, values in found.items() if np.isfinite(values)}


def context_variables(
    context: Mapping[str, Quantity], field: Field, taken: Collection[str]
) -> tuple[dict[str, xr.Variable], dict[str, object]]:
    """Variables of a context, and the attributes that name them; of an empty one, none.

    Arguments:
        context: Quantities by name.
        field: Of the measurement.
        taken: Names that are variables already.
    """
    if not context:
        return {}, {}
    names = {name: name if name not in taken else f"context_{name}" for name in context}
    variables = {names[name]: _variable(names[name], quantity, field) for name, quantity in context.items()}
    return variables, {KEY: json.dumps(names), "infield_version": SINCE}


def _variable(name: str, quantity: Quantity, field: Field) -> xr.Variable:
    value, units = quantity.value, {"units": quantity.units}
    if not isinstance(value, Tensor):
        return xr.Variable((), np.float64(value), units)
    array = value[0].numpy(force=True)
    if len(array) == 1:
        return xr.Variable(field.dims, array[0], units)
    own = CHANNEL if len(array) == len(field.channels) > 1 else f"{name}_{CHANNEL}"
    return xr.Variable((own, *field.dims), array, units)
