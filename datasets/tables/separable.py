"""Longitudes and latitudes that are stored along two axes and vary along one: the coordinates of a regular grid."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from infield.datasets.tables.axes import kind_of

CONSTANT = 1e-4
"""Variation across the other axes, in spacings, below which a coordinate counts as one of its axis."""


def with_own_axes(dataset: xr.Dataset, field: str) -> tuple[xr.Dataset, list[str]]:
    """A dataset whose field has coordinates along its axes where two-dimensional ones are those of a regular grid.

    Returns:
        The dataset, such axes named after their coordinates, and a note for each.
    """
    dims = dataset[field].dims
    wide = [
        str(name)
        for name, places in dataset.variables.items()
        if name not in dims
        and len(places.dims) > 1
        and set(places.dims) <= set(dims)
        and kind_of(str(name), dict(places.attrs)) in ("longitude", "latitude")
    ]
    axes = {name: _only_axis(dataset[name]) for name in wide}
    own = [axis for axis in axes.values() if axis is not None and axis not in dataset.variables]
    if len(set(own)) < len(wide):  # one of them is bent
        return dataset, []
    for name, axis in axes.items():
        line = dataset[name].isel({d: 0 for d in dataset[name].dims if d != axis}).values
        about: dict[str, Any] = dict(dataset[name].attrs)
        dataset = dataset.drop_vars(name).rename({axis: name}).assign_coords({name: (name, line, about)})
    return dataset, [
        f"'{name}' varies along '{axis}' alone and is taken as its coordinate" for name, axis in axes.items()
    ]


def _only_axis(places: xr.DataArray) -> Any:
    """The one dimension along which positions vary; None where there is none, or some are missing."""
    if places.dtype.kind not in "iuf":
        return None
    values = np.asarray(places.values, dtype=np.float64)
    if not np.isfinite(values).all():
        return None
    for i, dim in enumerate(places.dims):
        line = np.moveaxis(values, i, 0).reshape(values.shape[i], -1)
        step = np.abs(np.diff(line[:, 0])).min() if len(line) > 1 else 0.0
        if step > 0 and float(np.ptp(line, axis=1).max()) <= CONSTANT * step:
            return dim
    return None
