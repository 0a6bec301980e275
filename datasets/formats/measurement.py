"""The measurement format: data of an instrument, its operator and noise model, and the field they are to reveal.

The format is specified in docs/formats.md; a file that follows it can be written with xarray alone. The observed data
are the variable `data` (not `y`: that is the usual name of a space axis, and xarray keeps it for its coordinates).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from infield.core import registry
from infield.core.errors import InfieldError
from infield.datasets.formats.agreement import axes_by_name, check_data_units, turn_axes
from infield.datasets.formats.carried import Carried
from infield.datasets.formats.field import CHANNEL, Field, read_field
from infield.datasets.formats.measurement_context import read_context
from infield.datasets.formats.measurement_layout import (
    FINGERPRINT,
    UNTITLED,
    VERSION,
    as_operator_output,
    both_parts,
    dataset_of,
    encoding_of,
    like_data,
    named_arrays,
    parts,
    version_of,
)
from infield.datasets.formats.zarr_group import (
    check_chunks,
    flags,
    json_attribute,
    loaded_variable,
    open_group,
    refusal,
    variable,
    write_group,
)
from infield.physics.measurement import Measurement
from infield.physics.noise.gaussian import DATA
from infield.physics.noise.registry import NoiseModel, noise_from_json
from infield.physics.operators.rebuilt import fingerprint, same
from infield.physics.operators.registry import build_operator

REWRITTEN = "install the versions of its package that the file was written with, or remove this attribute"
"""Remedy where an operator has another fingerprint: without one it is compared with itself alone."""


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
    stored = open_group(path, "measurement", VERSION, indexes=False)
    operator_json = json_attribute(path, stored, "operator")
    group = turn_axes(path, stored, operator_json, json_attribute(path, stored, "field").get("dims"))
    field = read_field(path, group)
    group = axes_by_name(group, field)
    noise_json = json_attribute(path, group, "noise")
    arrays = {name: variable(path, group, name).values for name in named_arrays(operator_json)}
    try:
        operator = build_operator(
            operator_json, arrays, field.grid, len(field.channels), checked=FINGERPRINT in group.attrs
        )
    except InfieldError as error:
        raise error.within(f"{path}: 'operator'") from error
    _check_fingerprint(path, group, operator, field)
    shape: tuple[int, ...] = tuple(cast(Any, operator).data_shape)
    data = _read_data(path, group)
    y = as_operator_output(path, "data", data, parts(data.values), shape)
    observed: Tensor | None = cast(Any, operator).observed
    if "observed" in group.variables:
        where = both_parts(like_data(path, flags(path, group, "observed"), data), data)
        given = torch.from_numpy(as_operator_output(path, "observed", data, where, shape))
        if observed is not None and (given & ~observed).any():
            raise refusal(path, "observed", "1 where the operator's mask observes nothing", "0 there")
        observed = given
    if observed is not None:
        _check_observed(path, observed, y)
    values = y if observed is None else y[observed.numpy()]
    noise = _read_noise(path, group, noise_json, data, shape, values)
    truth = _read_truth(path, group, field)
    context = read_context(path, group, field, {*arrays, *map(str, noise_json.values())})
    digest, carried = _digest(path, stored), Carried.of_group(path, group, field, operator_json)
    check_data_units(path, data, operator_json, field)
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
            data_units=data.attrs["units"],
            context=context,
            source=path,
            digest=digest,
            attributes=dict(group.attrs),
            carried=carried,
        )
    except InfieldError as error:
        raise error.within(path) from error


def validate_measurement(path: str | Path) -> None:
    """Check everything that `open_measurement` needs.

    Raises:
        InfieldError: On the first problem, as `open_measurement` does.
    """
    open_measurement(path)


def measurement_digest(path: str | Path) -> str:
    """SHA-256 of the contents of a measurement file, whatever its chunks and compression; title and history do not
    count.

    Arguments:
        path: Directory of the zarr group.

    Raises:
        InfieldError: The file is missing, damaged, foreign or newer.
    """
    path = Path(path)
    return _digest(path, open_group(path, "measurement", VERSION, indexes=False))


def digest_in_memory(measurement: Measurement) -> str:
    """SHA-256 of a measurement that no file holds.

    It is of the data, the noise model, the grid, and what the operator makes of fixed random fields, to six digits.
    """
    digest = hashlib.sha256()
    shape = (2, *measurement.event_shape)
    fields = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).abs()
    try:
        z = measurement.operator.A(fields.to(measurement.y))
        z = torch.round(z.double() / z.double().abs().max().clamp_min(1e-300) * 1e6)
    except InfieldError:  # it refuses such fields
        z = torch.zeros(0)
    observed = torch.zeros(0) if measurement.observed is None else measurement.observed
    noise = measurement.noise
    about = (
        measurement.grid.to_json(),
        measurement.channels,
        measurement.units,
        noise.to_json(),
        measurement.description,
    )
    digest.update(json.dumps(about, sort_keys=True, default=_plain).encode())
    arrays = [noise.arrays()[name] for name in sorted(noise.arrays())]
    for values in (measurement.y.numpy(force=True), observed.numpy(force=True), z.numpy(force=True), *arrays):
        digest.update(np.ascontiguousarray(values).tobytes())
    return digest.hexdigest()


def _digest(path: Path, group: xr.Dataset) -> str:
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


def _check_fingerprint(path: Path, group: xr.Dataset, operator: Any, field: Field) -> None:
    """Refuse an operator that is another one than when the file was written."""
    if FINGERPRINT not in group.attrs:
        return
    stored = group.attrs[FINGERPRINT]
    try:
        then = [float(number) for number in json.loads(stored)]
    except (TypeError, ValueError):
        raise refusal(path, FINGERPRINT, repr(stored), "a list of numbers", REWRITTEN) from None
    now = fingerprint(operator, (len(field.channels), *field.grid.shape))
    if not same(then, now):
        found = f"{', '.join(f'{number:.6g}' for number in now)} of the operator as it is built now"
        expected = f"{', '.join(f'{number:.6g}' for number in then)} as when the file was written"
        raise refusal(path, FINGERPRINT, found, expected, REWRITTEN)


def _read_data(path: Path, group: xr.Dataset) -> xr.DataArray:
    data = variable(path, group, "data")
    if not isinstance(data.attrs.get("units"), str):
        raise refusal(path, "data.units", repr(data.attrs.get("units")), "the units of the data as text, '1' for none")
    if data.dtype.kind in "fc" and not data.values.any():  # zeros, or not one chunk on disk?
        check_chunks(path, "data", zeros_may_be_absent=False)
    return data


def _check_observed(path: Path, observed: Tensor, y: np.ndarray) -> None:
    if not observed.any():
        raise refusal(path, "observed", "0 everywhere", "1 where a datum was measured")
    if np.any(y[~observed.numpy()] != 0):
        raise refusal(
            path,
            "data",
            "values other than 0 where 'observed' is 0",
            "0 there",
            "set them to 0, or mark them as observed",
        )


def _read_noise(
    path: Path,
    group: xr.Dataset,
    noise_json: Mapping[str, Any],
    data: xr.DataArray,
    shape: tuple[int, ...],
    observed: np.ndarray,
) -> NoiseModel:
    found, needed = group.attrs["infield_version"], version_of(noise_json)
    if found < needed:
        remedy = "write this version, which has variances to be estimated"
        raise refusal(path, "infield_version", found, needed, remedy)
    arrays: dict[str, np.ndarray] = {DATA: observed}
    parts = noise_json.get("laws")
    for part in parts if isinstance(parts, list) else ():  # flat data of a part, as they are
        entries = part.items() if isinstance(part, Mapping) else ()
        named = (name for key, name in entries if key != "law" and isinstance(name, str))
        arrays |= {name: variable(path, group, name).values for name in named}
    for key, name in noise_json.items():
        if key == "law" or not isinstance(name, str):
            continue
        values = variable(path, group, name)
        if key == "variance":  # belongs to each datum, so it follows the data into the operator's shape
            arrays[name] = as_operator_output(path, name, data, both_parts(like_data(path, values, data), data), shape)
        else:
            arrays[name] = values.values
    try:
        return noise_from_json(noise_json, arrays)
    except InfieldError as error:
        raise error.within(f"{path}: 'noise'") from error


def _read_truth(path: Path, group: xr.Dataset, field: Field) -> Tensor | None:
    if "truth" not in group.variables:
        return None
    truth = variable(path, group, "truth")
    shape = (len(field.channels), *field.grid.shape)
    short = field.dims if len(field.channels) == 1 or np.iscomplexobj(truth.values) else (CHANNEL, *field.dims)
    values = parts(truth.values)
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
    data_units: str | None = None,
    dims: Mapping[str, tuple[str, ...]] | None = None,
    extra: xr.Dataset | None = None,
    attributes: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Write a measurement file; it appears under its name only when it is whole.

    Arguments:
        path: Directory to write, which must not exist.
        measurement: What to write. Complex fields' data of two parts are stored as complex numbers.
        overwrite: Whether an existing zarr group may be replaced.
        title: Human-readable, in one line.
        history: What was done to the data, one line a step.
        data_units: Units of the data, if the measurement does not hold them.
        dims: Dimension names of variables, by variable name (`data` without the axis of real and imaginary part). By
            default the dimensions of `NAME` are `NAME_0`, `NAME_1`, ..., and data under a mask have the field's.
        extra: Further variables, stored for readers other than Infield (held-out data, for example).
        attributes: Further attributes of variables and coordinates, as CF has them, by variable name.

    Raises:
        InfieldError: `path` exists, or the disk is full.
    """
    path = Path(path)
    dataset = dataset_of(measurement, dims or {}, data_units or measurement.data_units)
    if extra is not None:
        dataset = dataset.merge(extra, join="exact", combine_attrs="override")
        dataset.attrs = {**extra.attrs, **dataset.attrs}
    carried = measurement.carried
    if isinstance(carried, Carried) and carried.fits(dataset):
        dataset = carried.onto(dataset)
        dataset["data"].attrs = {**carried.of_field, **dataset["data"].attrs}
    for name, more in (attributes or {}).items():
        dataset[name].attrs = {**more, **dataset[name].attrs}
    plugins = registry.plugins_so_far()
    dataset.attrs |= {"title": title or UNTITLED, "history": history}
    dataset.attrs |= {"plugins": json.dumps(plugins)} if plugins else {}
    encoding = {str(name): encoding_of(v) for name, v in dataset.variables.items()}
    write_group(path, dataset, overwrite=overwrite, encoding=encoding)
