"""The measurement format: data of an instrument, its operator and noise law, and the field they are to reveal.

The format is specified in the README; a file that follows it can be written with xarray alone. The observed data are the
variable `data` (not `y`: that is the usual name of a space axis, and xarray keeps that name for its coordinates).
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from zarr.codecs import Crc32cCodec, ZstdCodec

from infield import InfieldError
from infield.datasets.field_axes import CHANNEL, COMPLEX_CHANNELS, Field, read_field
from infield.datasets.zarr_group import (
    CONVENTIONS,
    check_new,
    disk_full_in_words,
    flags,
    json_attribute,
    loaded_variable,
    open_group,
    put_in_place,
    refusal,
    refuse_missing_chunks,
    variable,
)
from infield.physics.measurement import Measurement
from infield.physics.noise import NoiseLaw, noise_from_json
from infield.physics.registry import build_operator

VERSION = 1


def open_measurement(path: str | Path) -> Measurement:
    """Read and validate a measurement file.

    Arguments:
        path: Directory of the zarr group.

    Returns:
        The measurement, in float64, with its operator built.

    Raises:
        InfieldError: The file is missing, damaged, foreign, newer, or not as specified; one line names the file, the
            key, what was found and what was expected.
    """
    path = Path(path)
    group = open_group(path, "measurement", VERSION)
    field = read_field(path, group)
    operator_json = json_attribute(path, group, "operator")
    noise_json = json_attribute(path, group, "noise")
    arrays = {name: variable(path, group, name).values for name in named_arrays(operator_json)}
    try:
        operator = build_operator(operator_json, arrays, field.grid, len(field.channels))
    except InfieldError as error:
        raise InfieldError(f"{path}: 'operator': {error}") from error
    shape: tuple[int, ...] = tuple(cast(Any, operator).data_shape)
    data = _read_data(path, group)
    y = _as_operator_output(path, "data", data, _parts(data.values), shape)
    observed: Tensor | None = cast(Any, operator).observed
    if "observed" in group.variables:
        where = _both(_like_data(path, flags(path, group, "observed"), data), data)
        given = torch.from_numpy(_as_operator_output(path, "observed", data, where, shape))
        if observed is not None and (given & ~observed).any():
            raise refusal(path, "observed", "1 where the operator's mask observes nothing", "0 there")
        observed = given
    if observed is not None:
        _check_observed(path, observed, y)
    noise = _read_noise(path, group, noise_json, data, shape)
    truth = _read_truth(path, group, field)
    try:
        return Measurement(
            y=torch.from_numpy(y)[None],
            operator=operator,
            noise=noise,
            grid=field.grid,
            channels=field.channels,
            units=field.units,
            observed=observed,
            truth=truth,
            description=operator_json,
            arrays=arrays,
        )
    except InfieldError as error:
        raise InfieldError(f"{path}: {error}") from error


def validate_measurement(path: str | Path) -> None:
    """Check everything that `open_measurement` needs.

    Raises:
        InfieldError: On the first problem, as `open_measurement` does.
    """
    open_measurement(path)


def measurement_digest(path: str | Path) -> str:
    """SHA-256 of what a measurement file says, whatever its chunks and compression; title and history do not count.

    Arguments:
        path: Directory of the zarr group.

    Raises:
        InfieldError: The file is missing, damaged, foreign or newer.
    """
    path = Path(path)
    group = open_group(path, "measurement", VERSION)
    digest = hashlib.sha256()

    def add(*parts: Any) -> None:
        digest.update(json.dumps(parts, sort_keys=True, default=_plain).encode() + b"\n")

    add({key: value for key, value in group.attrs.items() if key not in ("title", "history")})
    for name in sorted(map(str, group.variables)):
        values = loaded_variable(path, group, name)
        add(name, values.dims, values.shape, dict(values.attrs))
        if values.dtype.kind in "biufc":
            array = np.ascontiguousarray(values.values, dtype=values.dtype.newbyteorder("<"))
            add(array.dtype.str)
            digest.update(array.tobytes())
        else:
            add(values.values.tolist())
    return digest.hexdigest()


def _plain(value: Any) -> Any:
    return value.tolist() if isinstance(value, np.ndarray | np.generic) else str(value)


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


def _read_data(path: Path, group: xr.Dataset) -> xr.DataArray:
    data = variable(path, group, "data")
    if not isinstance(data.attrs.get("units"), str):
        raise refusal(path, "data.units", repr(data.attrs.get("units")), "the units of the data as text, '1' for none")
    if data.dtype.kind in "fc" and not data.values.any():  # zeros, or not one chunk on disk?
        refuse_missing_chunks(path, "data", zeros_may_be_absent=False)
    return data


def _parts(values: np.ndarray) -> np.ndarray:
    """Complex values as real and imaginary part along a new first axis; real values as they are. float64."""
    if np.iscomplexobj(values):
        values = np.stack([values.real, values.imag])
    return np.ascontiguousarray(values, dtype=np.float64)


def _both(values: np.ndarray, data: xr.DataArray) -> np.ndarray:
    """What belongs to each datum, for both parts of complex data."""
    return np.stack([values, values]) if np.iscomplexobj(data.values) else values


def _as_operator_output(
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


def _like_data(path: Path, values: xr.DataArray, data: xr.DataArray) -> np.ndarray:
    """Expand a variable over some of the data's dimensions to all of them, by name."""
    if not set(values.dims) <= set(data.dims):
        raise refusal(path, str(values.name), f"dimensions {values.dims}", f"some or all of the data's {data.dims}")
    return np.ascontiguousarray(values.variable.set_dims(dict(data.sizes)).transpose(*data.dims).values)


def _check_observed(path: Path, observed: Tensor, y: np.ndarray) -> None:
    if not observed.any():
        raise refusal(path, "observed", "0 everywhere", "1 where a datum was measured")
    if np.any(y[~observed.numpy()] != 0):
        raise refusal(path, "data", "values other than 0 where 'observed' is 0", "0 there")


def _read_noise(
    path: Path, group: xr.Dataset, noise_json: Mapping[str, Any], data: xr.DataArray, shape: tuple[int, ...]
) -> NoiseLaw:
    arrays: dict[str, np.ndarray] = {}
    for key, name in noise_json.items():
        if key == "law" or not isinstance(name, str):
            continue
        values = variable(path, group, name)
        if key == "variance":  # belongs to each datum, so it follows the data into the operator's shape
            arrays[name] = _as_operator_output(path, name, data, _both(_like_data(path, values, data), data), shape)
        else:
            arrays[name] = values.values
    try:
        return noise_from_json(noise_json, arrays)
    except InfieldError as error:
        raise InfieldError(f"{path}: 'noise': {error}") from error


def _read_truth(path: Path, group: xr.Dataset, field: Field) -> Tensor | None:
    if "truth" not in group.variables:
        return None
    truth = variable(path, group, "truth")
    shape = (len(field.channels), *field.grid.shape)
    short = field.dims if len(field.channels) == 1 or np.iscomplexobj(truth.values) else (CHANNEL, *field.dims)
    values = _parts(truth.values)
    values = values if values.ndim == len(shape) else values[None]
    if truth.dims not in (short, (CHANNEL, *field.dims)) or values.shape != shape:
        expected = f"{short} for a field of shape {shape} (channel first)"
        raise refusal(path, "truth", f"{truth.dtype} along {truth.dims} of shape {truth.shape}", expected)
    return torch.from_numpy(values)[None]


def write_measurement(
    path: str | Path,
    measurement: Measurement,
    *,
    overwrite: bool = False,
    title: str = "",
    history: str = "",
    data_units: str = "1",
    dims: Mapping[str, tuple[str, ...]] | None = None,
    extra: xr.Dataset | None = None,
) -> None:
    """Write a measurement file; it appears under its name only when it is whole.

    Arguments:
        path: Directory to write, which must not exist.
        measurement: What to write. Complex fields' data of two parts are stored as complex numbers.
        overwrite: Whether an existing zarr group may be replaced.
        title: One line for people.
        history: What was done to the data, one line a step.
        data_units: Units of the data.
        dims: Dimension names of variables, by variable name (`data` without the axis of real and imaginary part). By
            default the dimensions of `NAME` are `NAME_0`, `NAME_1`, ..., and data under a mask have the field's.
        extra: Further variables, carried along for people and other programs (held-out data, for example).

    Raises:
        InfieldError: `path` exists, or the disk is full.
    """
    path = Path(path)
    check_new(path, overwrite)
    dataset = _dataset(measurement, dims or {}, data_units)
    if extra is not None:
        dataset = dataset.merge(extra, join="exact", combine_attrs="override")
    dataset.attrs |= {"title": title or "Measurement of a field", "history": history}
    draft = path.with_name(path.name + ".draft")
    with disk_full_in_words(path, "make room and start again"):
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(draft, ignore_errors=True)
        try:
            encoding = {str(name): _encoding(v) for name, v in dataset.variables.items()}
            dataset.to_zarr(draft, mode="w", zarr_format=3, consolidated=False, encoding=encoding)
            put_in_place(draft, path, overwrite)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def _encoding(values: xr.Variable) -> dict[str, Any]:
    """Storage of one variable: a lost chunk must read as a value that the reader refuses; a bent one must not decode."""
    fill: dict[str, Any] = {"f": np.nan, "c": complex(np.nan, np.nan), "i": -1}
    encoding: dict[str, Any] = {"compressors": [ZstdCodec(level=3), Crc32cCodec()]}
    if values.dtype.kind in fill:
        encoding["fill_value"] = fill[values.dtype.kind]
    if values.dtype.kind == "f":
        encoding["_FillValue"] = None
    return encoding


def _dataset(measurement: Measurement, dims: Mapping[str, tuple[str, ...]], data_units: str) -> xr.Dataset:
    field = Field(measurement.grid, measurement.channels, measurement.units)
    y = measurement.y[0].numpy(force=True)
    observed = _own_observed(measurement)
    noise_arrays = measurement.noise.arrays()
    variance_name = measurement.noise.to_json().get("variance")
    variance = np.broadcast_to(noise_arrays[variance_name], y.shape) if isinstance(variance_name, str) else None
    per_datum = [v for v in (observed, variance) if v is not None]
    if measurement.channels == COMPLEX_CHANNELS and len(y) == 2 and all(np.array_equal(v[0], v[1]) for v in per_datum):
        data, leading = _complex(y), 1
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
        "infield_version": VERSION,
        "field": field.attribute(),
        "operator": json.dumps(measurement.description),
        "noise": json.dumps(measurement.noise.to_json()),
    }
    return xr.Dataset(variables, coords=field.coordinates(), attrs=attributes)


def _own_observed(measurement: Measurement) -> np.ndarray | None:
    """Which data are observed, unless the operator says just that."""
    observed, known = measurement.observed, getattr(measurement.operator, "observed", None)
    if observed is None or (known is not None and torch.equal(observed, known)):
        return None
    return observed.numpy(force=True)


def _complex(parts: np.ndarray) -> np.ndarray:
    """Complex numbers from real and imaginary part along the first axis, bit for bit."""
    return np.ascontiguousarray(np.moveaxis(parts, 0, -1)).view(np.result_type(parts, np.complex64))[..., 0]


def _truth(truth: np.ndarray, field: Field) -> xr.Variable:
    attributes = {"units": field.units}
    if field.channels == COMPLEX_CHANNELS:
        return xr.Variable(field.dims, _complex(truth), attributes)
    if len(field.channels) == 1:
        return xr.Variable(field.dims, truth[0], attributes)
    return xr.Variable((CHANNEL, *field.dims), truth, attributes)
