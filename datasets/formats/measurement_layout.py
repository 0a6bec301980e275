"""How a measurement is laid out in its file: complex data, the channel axis, names of dimensions, storage."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from infield.datasets.formats.field import CHANNEL, COMPLEX_CHANNELS, Field
from infield.datasets.formats.measurement_context import context_variables
from infield.datasets.formats.zarr_group import CONVENTIONS, checked, refusal
from infield.physics.measurement import Measurement
from infield.physics.operators.rebuilt import fingerprint, foreign

VERSION = 2
"""The newest version that is read: it adds a context, and `{"estimate": true}` in place of a variance."""

FINGERPRINT = "operator_fingerprint"
"""Attribute of files whose operator is of another package: its outputs on fixed fields, see `operators.rebuilt`."""

UNTITLED = "Measurement of a field"
"""Title of a file that was given none."""


def version_of(noise_json: Mapping[str, Any]) -> int:
    """The oldest version with this noise model."""
    laws = noise_json.get("laws")
    parts = [law for law in laws if isinstance(law, Mapping)] if isinstance(laws, list) else []
    return 2 if any(isinstance(law.get("variance"), Mapping) for law in (noise_json, *parts)) else 1


def parts(values: np.ndarray) -> np.ndarray:
    """Complex values as real and imaginary part along a new first axis; real values as they are. float64."""
    if np.iscomplexobj(values):
        values = np.stack([values.real, values.imag])
    return np.ascontiguousarray(values, dtype=np.float64)


def both_parts(values: np.ndarray, data: xr.DataArray) -> np.ndarray:
    """What belongs to each datum, for both parts of complex data."""
    return np.stack([values, values]) if np.iscomplexobj(data.values) else values


def as_operator_output(
    path: Path, key: str, data: xr.DataArray, values: np.ndarray, shape: tuple[int, ...]
) -> np.ndarray:
    """Give values of the data's shape the shape of the operator's output: only a leading axis of length 1 is added."""
    if values.shape == shape:
        return values
    if (1, *values.shape) == shape:
        return values[None]
    kind = "complex" if np.iscomplexobj(data.values) else "real"
    expected = f"what the operator gives, real of shape {shape}"
    if shape[0] == 2:
        expected += f" or complex of shape {shape[1:]}"
    if shape[0] == 1:
        expected += f" or {shape[1:]}"
    raise refusal(path, key, f"{kind} values of shape {data.shape}", expected)


def like_data(path: Path, values: xr.DataArray, data: xr.DataArray) -> np.ndarray:
    """Expand a variable over some of the data's dimensions to all of them, by name."""
    if not set(values.dims) <= set(data.dims):
        raise refusal(path, str(values.name), f"dimensions {values.dims}", f"some or all of the data's {data.dims}")
    return np.ascontiguousarray(values.variable.set_dims(dict(data.sizes)).transpose(*data.dims).values)


def encoding_of(values: xr.Variable) -> dict[str, Any]:
    """Encoding of a variable: its fill value reveals a lost chunk, its checksum a corrupt one."""
    fill: dict[str, Any] = {"f": np.nan, "c": complex(np.nan, np.nan), "i": -1}
    encoding: dict[str, Any] = {"compressors": checked(level=3)}
    if values.dtype.kind in fill:
        encoding["fill_value"] = fill[values.dtype.kind]
    if values.dtype.kind == "f":
        encoding["_FillValue"] = None
    return encoding


def dataset_of(measurement: Measurement, dims: Mapping[str, tuple[str, ...]], data_units: str) -> xr.Dataset:
    field = Field(measurement.grid, measurement.channels, measurement.units)
    y = measurement.y[0].numpy(force=True)
    observed = _own_observed(measurement)
    noise_arrays = measurement.noise.arrays()
    variance_name = measurement.noise.to_json().get("variance")
    variance = np.broadcast_to(noise_arrays[variance_name], y.shape) if isinstance(variance_name, str) else None
    per_datum = [v for v in (observed, variance) if v is not None]
    if measurement.channels == COMPLEX_CHANNELS and len(y) == 2 and all(np.array_equal(v[0], v[1]) for v in per_datum):
        data, leading = complex_numbers(y), 1
    elif len(y) == 1:
        data, leading = y[0], 1
    else:
        data, leading = y, 0
    names = dict(dims)
    if "data" not in names and measurement.description.get("name") == "mask":
        names["data"] = field.dims if data.shape == field.grid.shape else (CHANNEL, *field.dims)

    def named(name: str, values: np.ndarray, **attributes: Any) -> xr.Variable:
        axes = names.get(name, tuple(f"{name}_{axis}" for axis in range(values.ndim)))
        return xr.Variable(axes, values, attributes)

    variables = {"data": named("data", data, units=data_units)}
    data_dims = variables["data"].dims
    if observed is not None:
        flag = {"flag_values": np.array([0, 1], dtype=np.int8), "flag_meanings": "unobserved observed"}
        variables["observed"] = xr.Variable(data_dims, (observed[0] if leading else observed).astype(np.int8), flag)
    if measurement.truth is not None:
        variables["truth"] = _truth(measurement.truth[0].numpy(force=True), field)
    for name, values in {**measurement.arrays, **noise_arrays}.items():
        stored = values.astype(np.int8) if values.dtype == bool else values
        variables[name] = named(name, np.asarray(stored))
    if variance is not None:
        variables[str(variance_name)] = xr.Variable(data_dims, variance[0] if leading else variance)
    attributes = {
        "Conventions": CONVENTIONS,
        "infield_format": "measurement",
        "infield_version": version_of(measurement.noise.to_json()),  # what most versions read; a context raises it
        "field": field.attribute(),
        "operator": json.dumps(measurement.description),
        "noise": json.dumps(measurement.noise.to_json()),
    }
    if foreign(measurement.description):
        shape = (len(measurement.channels), *measurement.grid.shape)
        attributes[FINGERPRINT] = json.dumps(fingerprint(measurement.operator, shape))
    coordinates = field.coordinates()
    more, more_attributes = context_variables(measurement.context, field, {*variables, *coordinates, *field.dims})
    return xr.Dataset(variables | more, coords=coordinates, attrs=attributes | more_attributes)


def _own_observed(measurement: Measurement) -> np.ndarray | None:
    """Which data are observed, unless the operator defines the same."""
    observed, known = measurement.observed, getattr(measurement.operator, "observed", None)
    if observed is None or (known is not None and torch.equal(observed, known)):
        return None
    return observed.numpy(force=True)


def complex_numbers(parts: np.ndarray) -> np.ndarray:
    """Complex numbers from real and imaginary part along the first axis, bit for bit."""
    return np.ascontiguousarray(np.moveaxis(parts, 0, -1)).view(np.result_type(parts, np.complex64))[..., 0]


def _truth(truth: np.ndarray, field: Field) -> xr.Variable:
    attributes = {"units": field.units}
    if field.channels == COMPLEX_CHANNELS:
        return xr.Variable(field.dims, complex_numbers(truth), attributes)
    if len(field.channels) == 1:
        return xr.Variable(field.dims, truth[0], attributes)
    return xr.Variable((CHANNEL, *field.dims), truth, attributes)


def named_arrays(operator_json: Mapping[str, Any]) -> list[str]:
    """Names of the variables to which an operator description refers, in order, without repetition."""

    def walk(node: Any) -> Iterator[str]:
        if isinstance(node, Mapping):
            named = node.get("arrays", {})
            yield from (
                name for name in (named.values() if isinstance(named, Mapping) else ()) if isinstance(name, str)
            )
            operators = node.get("operators", ())
            for inner in operators if isinstance(operators, list | tuple) else ():
                yield from walk(inner)

    return list(dict.fromkeys(walk(operator_json)))
