"""How a posterior is laid out in its file: arrays, chunks, attributes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from infield.core.grid import PointSet
from infield.core.provenance import versions
from infield.datasets.formats.block_writer import create_done_flags
from infield.datasets.formats.carried import Carried
from infield.datasets.formats.field import CHANNEL, Field
from infield.datasets.formats.zarr_group import CONVENTIONS, checked, lay_out_group

VERSION = 1
COSTS = ("velocity_calls", "operator_calls", "seconds")
_STORED_ELSEWHERE = ("samples", "dtype", "field", "grid_sha256")  # of the run, by the arrays and their coordinates


def event_shape(field: Field) -> tuple[int, ...]:
    """Shape of one sample in the file: `(channel, *space)`, without the channel axis where there is one channel."""
    return (*((len(field.channels),) if len(field.channels) > 1 else ()), *field.grid.shape)


def lay_out_posterior(
    path: Path,
    field: Field,
    run: Mapping[str, Any],
    title: str,
    tile: tuple[int, ...] | None = None,
    carried: Carried | None = None,
) -> None:
    """Write a posterior group in which nothing is done yet.

    A number that was never written reads as NaN.

    Arguments:
        path: Directory to write.
        field: The field that is sampled.
        run: What the samples depend on, with `samples`, `block` and `dtype`.
        title: Human-readable, in one line.
        tile: Points of a chunk along the space axes; None for all in one.
        carried: What goes along with the field from its measurement.
    """
    samples, block = run["samples"], max(min(run["block"], run["samples"]), 1)
    coordinates = field.coordinates()
    coordinates["sample"] = xr.Variable(("sample",), pd.RangeIndex(samples))
    carried = carried or Carried()
    title = ": ".join(filter(None, (title, carried.title)))
    empty = carried.onto(xr.Dataset(coords=coordinates, attrs=_attributes(field, run, title)))
    group = lay_out_group(path, empty)

    def lay_out(name: str, dims: tuple[str, ...], shape: tuple[int, ...], chunks: tuple[int, ...], **more: Any) -> None:
        settings = {"dtype": run["dtype"], "fill_value": np.nan, "compressors": checked(), **more}
        group.create_array(name, shape=shape, chunks=chunks, dimension_names=dims, **settings)

    about: dict[str, Any] = {**_of_field(field, carried), "units": field.units}
    if isinstance(field.grid, PointSet):
        about["coordinates"] = " ".join(field.grid.names)
    dims, shape = (*((CHANNEL,) if len(field.channels) > 1 else ()), *field.dims), event_shape(field)
    space = shape[len(shape) - len(field.dims) :]
    chunk = (*shape[: len(shape) - len(space)], *map(min, tile or space, space))
    lay_out("samples", ("sample", *dims), (samples, *shape), (block, *chunk), attributes=about)
    for name, method in (("mean", "sample: mean"), ("std", "sample: standard_deviation")):
        cells = f"{about.get('cell_methods', '')} {method}".strip()
        lay_out(name, dims, shape, chunk, attributes={**_statistic(about, name), "cell_methods": cells})
    blocks = -(-samples // block)
    for name, unit in zip(COSTS, ("1", "1", "s"), strict=True):
        lay_out(name, ("block",), (blocks,), (1,), dtype="float64", attributes={"units": unit})
    create_done_flags(group, samples, block)


def _of_field(field: Field, carried: Carried) -> dict[str, Any]:
    """CF attributes of the field; the name of its variable where it has any."""
    if not carried.of_field or len(field.channels) > 1:
        return {}
    return {**carried.of_field, "variable_name": field.channels[0]}


def _statistic(about: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Attributes of the mean are those of the field; of its standard deviation, those of an error."""
    if name != "std" or "variable_name" not in about:
        return dict(about)
    named = {key: f"{about[key]} standard_error" for key in ("standard_name",) if key in about}
    named |= {key: f"posterior standard deviation of {about[key]}" for key in ("long_name",) if key in about}
    return {**about, **named}


def _attributes(field: Field, run: Mapping[str, Any], title: str) -> dict[str, Any]:
    described = {key: value for key, value in run.items() if key not in _STORED_ELSEWHERE}
    return {
        **{key: value if isinstance(value, str | int) else json.dumps(value) for key, value in described.items()},
        "Conventions": CONVENTIONS,
        "infield_format": "posterior",
        "infield_version": VERSION,
        "infield_complete": 0,
        "infield_run": json.dumps(run),
        "field": field.attribute(),
        "title": title or "Posterior samples of a field",
        "versions": json.dumps(versions()),
    }
