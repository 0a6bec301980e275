"""Places along dimensions of a gridded field that are named by an index, a coordinate or a date."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cftime
import numpy as np
import xarray as xr

from infield.core.errors import InfieldError
from infield.datasets.tables.axes import kind_of
from infield.datasets.tables.given import Given


def chosen_places(
    source: Path | Given, dataset: xr.Dataset, field: xr.DataArray, select: Mapping[str, str]
) -> dict[str, int]:
    """Indices of the places that the caller names, by dimension.

    Raises:
        InfieldError: There is no such dimension or place, or it may be one of two.
    """
    chosen = {}
    for name, text in select.items():
        dim = name
        if name == "time" and name not in field.dims:  # whatever the file calls it
            dim = next((str(d) for d in field.dims if kind_of(str(d), attributes_of_axis(dataset, d)) == "time"), name)
        if dim not in field.dims:
            raise InfieldError(
                where=f"{source}: '{field.name}'", found=f"no dimension '{name}'", expected=f"one of {field.dims}"
            )
        chosen[dim] = _place(source, dataset, dim, text.strip(), field.sizes[dim])
    return chosen


def attributes_of_axis(dataset: xr.Dataset, dim: Any) -> dict[str, Any]:
    """Attributes of a dimension's coordinate; none where it has none."""
    return dict(dataset[dim].attrs) if dim in dataset.variables else {}


def _place(source: Path | Given, dataset: xr.Dataset, dim: str, text: str, size: int) -> int:
    """An index, or the only place whose date begins so, or whose coordinate is this."""
    index = int(text) % size if text.lstrip("-").isdecimal() and -size <= int(text) < size else None
    names, dates = _names(dataset, dim)
    found = [i for i, own in enumerate(names) if (own[0].startswith(text.replace(" ", "T")) if dates else text in own)]
    year_or_value = len(text) == 4 if dates else True  # "3" is no date
    if index is not None and (text.startswith("-") or not found or not year_or_value or index in found):
        return index
    if index is not None:
        value = f"{text}-" if dates else f"{float(text):.1f}"
        raise InfieldError(
            where=f"{source}: '{dim}'",
            found=f"'{text}', which is an index (of {names[index][0]}) and {'a year' if dates else 'a coordinate'}",
            expected="one of them",
            remedy=f"write {index - size} for the index, or {value} for the {'date' if dates else 'coordinate'}",
        )
    if len(found) == 1:
        return found[0]
    expected = f"an index from 0 to {size - 1}"
    if found:
        expected = f"one place: {len(found)} begin so, the first {names[found[0]][0]}, the last {names[found[-1]][0]}"
    elif dates:
        expected += f", or a date from {names[0][0]} to {names[-1][0]} or the beginning of one"
    elif names:
        expected += f", or a coordinate from {names[0][0]} to {names[-1][0]}"
    raise InfieldError(where=f"{source}: '{dim}'", found=f"'{text}'", expected=expected)


def _names(dataset: xr.Dataset, dim: str) -> tuple[list[tuple[str, ...]], bool]:
    """How each place may be written; and whether these are dates. None where there is no coordinate."""
    if dim not in dataset.variables:
        return [], False
    coordinate = dataset[dim]
    if coordinate.dtype.kind not in "biuf":
        return [(str(v),) for v in coordinate.values], False
    values, units = coordinate.values.astype(np.float64), str(coordinate.attrs.get("units", ""))
    if " since " in units and np.isfinite(values).all():
        calendar = str(coordinate.attrs.get("calendar", "standard"))
        for year_zero in ({}, {"has_year_zero": True}):  # climatologies count from the year 0
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", cftime.CFWarning)  # of the year 0
                    return [(d.isoformat(),) for d in cftime.num2date(values, units, calendar, **year_zero)], True
            except ValueError:  # months of no fixed length, a calendar that nobody knows
                continue
    return [(f"{v:g}", str(v)) for v in values], False
