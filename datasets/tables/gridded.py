"""A gridded field with gaps to a measurement: values under a mask, land distinguished from missing values."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from infield.core.errors import ArgumentError, InfieldError
from infield.core.grid import Axis, Grid, snap
from infield.datasets.formats.carried import LAND, LAND_FLAGS
from infield.datasets.tables.absent import unwritten_chunks
from infield.datasets.tables.axes import CIRCLE, ORDER, RADIANS, Column, cut_open, in_degrees, kind_of
from infield.datasets.tables.chosen import attributes_of_axis, chosen_places
from infield.datasets.tables.converted import Converted, noise_model, noise_of, refuse_constant
from infield.datasets.tables.dataset import (
    STORED,
    named_group,
    never_written,
    open_dataset,
    valid,
    variables_of_groups,
    zeros_as_gaps,
)
from infield.datasets.tables.given import Given
from infield.datasets.tables.land import land_cells
from infield.datasets.tables.noise_units import in_units_of_data
from infield.datasets.tables.scattered import units_of
from infield.datasets.tables.separable import with_own_axes
from infield.datasets.tables.stand_ins import refuse_stand_ins
from infield.physics.measurement import Measurement
from infield.physics.operators.registry import build_operator

ALWAYS_MISSING = "always-missing"
"""In place of a mask: cells that are missing at all times are land."""

ABOUT = ("title", "history", "institution", "source", "references", "comment")


@dataclass(frozen=True)
class Gridded:
    """What to read of a file of fields, and how.

    Arguments:
        variable: The field.
        mask: Variable that is 0 and 1 on land and sea, in either sense; or `ALWAYS_MISSING`.
        noise_std: Standard deviation of the noise, in the units of the file.
        noise_variable: Variable of such standard deviations. With neither, the variance is to be estimated.
        select: One index or coordinate of dimensions that are to be left out; times as dates or parts of them.
        gaps: Whether missing values are gaps; else they are refused.
        units: Of the data; those of the file where None.
        convert: Units to convert the data to.
        wrap: Longitude at which the circle is cut open.
        closed: Whether the axis of longitude is periodic; None where the data decide.
        missing: Numbers that stand for missing values though the file does not say so.
        no_missing: Whether numbers such as -9999 are values like the others where they are not named.
    """

    variable: str
    mask: str | None = None
    noise_std: float | None = None
    noise_variable: str | None = None
    select: Mapping[str, str] = dataclasses.field(default_factory=dict)
    gaps: bool = True
    units: str | None = None
    convert: str | None = None
    wrap: float | None = None
    closed: bool | None = None
    missing: tuple[float, ...] = ()
    no_missing: bool = False


def convert_grid(source: Path | Given, asked: Gridded) -> Converted:
    """The measurement that a gridded field is.

    Raises:
        InfieldError: The file, a variable or a setting is not as needed; one line names it.
    """
    group, name = named_group(source, asked.variable)
    with open_dataset(source, group) as dataset:
        try:
            return _convert(source, dataset, dataclasses.replace(asked, variable=name), group)
        except ArgumentError:
            raise
        except InfieldError as error:
            raise (error if error.where.startswith("{") else error.within(source)) from error


def _convert(source: Path | Given, dataset: xr.Dataset, asked: Gridded, group: str) -> Converted:
    _variable(source, dataset, asked.variable)
    dataset, notes = with_own_axes(dataset, asked.variable)
    field = dataset[asked.variable]
    for dim, size in field.sizes.items():
        if size == 0:
            raise InfieldError(where=f"{source}: '{dim}'", found="a dimension of 0 cells", expected="at least one")
    never = None
    if asked.mask == ALWAYS_MISSING:
        times = [d for d in field.dims if kind_of(str(d), attributes_of_axis(dataset, d)) == "time"]
        if not times:
            raise InfieldError(where="{mask}", found="a field without times", expected="several", parameters=["mask"])
        never = xr.DataArray(np.isnan(valid(field)), dims=field.dims).all(times)
    chosen = chosen_places(source, dataset, field, asked.select)
    single = {str(d): 0 for d, n in field.sizes.items() if n == 1 and d not in chosen}
    if single:
        notes.append(f"one cell along {', '.join(single)}: left out as an axis")
    places = {**chosen, **single}
    field = field.isel(places)
    if not field.dims:
        raise InfieldError(
            where=f"{source}: '{asked.variable}'", found="one value", expected="an axis with at least two cells"
        )
    cut = dataset.isel({d: i for d, i in places.items() if d in dataset.dims})
    axes, index, more = _axes(source, dataset, field, asked)
    notes += more
    dims = tuple(axis.name for axis in axes)

    def laid_out(values: xr.DataArray) -> np.ndarray:
        """Along the axes of the field, turned as they were; spread over those that it lacks."""
        if not set(values.dims) <= set(dims):
            raise InfieldError(
                where=f"{source}: '{values.name}'",
                found=f"it along {values.dims}",
                expected=f"dimensions of '{asked.variable}', {dims}",
            )
        own = xr.DataArray(valid(values), dims=values.dims).isel({d: i for d, i in index.items() if d in values.dims})
        return np.asarray(own.variable.set_dims({d: len(index[d]) for d in dims}).transpose(*dims).values)

    values = laid_out(field)
    values = np.where(np.isin(values.astype(np.float32), np.array(asked.missing, dtype=np.float32)), np.nan, values)
    if not asked.no_missing:
        refuse_stand_ins(source, asked.variable, values)
    notes += unwritten_chunks(source, group, dataset[asked.variable], values, stated=asked.no_missing)
    if unwritten := int(never_written(field).sum()):
        notes.append(
            f"warning: {unwritten} values of '{asked.variable}' are netCDF's default fill value: never written"
        )
    if infinite := int(np.isinf(np.asarray(field.values, dtype=np.float64)).sum()):
        notes.append(f"warning: {infinite} values of '{asked.variable}' are infinite and count as missing")
    zeros = zeros_as_gaps(dataset[asked.variable])
    if zeros:
        notes.append(f"warning: 0 is the fill value of '{asked.variable}': {zeros} zeros in its file count as missing")
    present = np.isfinite(values)
    land: np.ndarray | None
    if never is not None:
        land = np.asarray(laid_out(never.astype(float)) > 0.5)
    else:
        mask = None if asked.mask is None else _variable(source, cut, asked.mask)
        land = None if mask is None else land_cells(source, mask, laid_out, present)
    gaps = int((~present if land is None else ~present & ~land).sum())
    if gaps and not asked.gaps:
        raise InfieldError(
            where=f"{source}: '{asked.variable}'",
            found=f"{gaps} of {values.size} values missing",
            expected="none",
            remedy="let them be gaps (leave {no_gaps} out), or name the land ({mask})",
            parameters=["no_gaps", "mask"],
        )
    if not present.any():
        raise InfieldError(
            where=f"{source}: '{asked.variable}'", found="no value that is not missing", expected="at least two"
        )
    refuse_constant(source, asked.variable, values[present])
    noise = None if asked.noise_variable is None else _variable(source, cut, asked.noise_variable)
    stds = None if noise is None else laid_out(noise)
    if stds is not None and noise is not None:
        stds = stds * in_units_of_data(source, asked.noise_variable, noise.attrs, asked.units, field.attrs)
        lacking = present & ~np.isfinite(stds)
        if lacking.any():
            notes.append(f"{int(lacking.sum())} values without a noise level were left out")
        present &= np.isfinite(stds)
    units, change = units_of(asked.variable, field.attrs, asked.units, asked.convert)
    seen = None if stds is None else stds[present]
    variances = noise_of(source, asked.noise_std, seen, int(present.sum()), abs(change.slope))
    if gaps:
        notes.append(f"{gaps} of {values.size} values are missing: gaps")
    if land is not None:
        notes.append(f"{int(land.sum())} cells are land")
    grid = Grid(tuple(axes))
    y = torch.from_numpy(np.where(present, change(np.nan_to_num(values)), 0.0))
    spread = variances
    if variances is not None and variances.size > 1:
        spread = np.full((1, *values.shape), float(np.median(variances)))  # any positive number where nothing is seen
        spread[0, present] = variances
    description = {"name": "mask", "arrays": {"mask": "mask"}}
    arrays = {"mask": present}
    measurement = Measurement(
        y=y[None, None],
        operator=build_operator(description, arrays, grid, 1),
        noise=noise_model(spread, y[torch.from_numpy(present)].numpy()),
        grid=grid,
        channels=(asked.variable,),
        units=units,
        description=description,
        arrays=arrays,
    )
    extra, about = _carried(dataset, field, axes, index, cut, tuple(places), land)
    facts = {
        "data": int(present.sum()),
        "missing": gaps,
        "land": None if land is None else int(land.sum()),
        "cells": int(values.size),
    }
    text = {key: str(dataset.attrs[key]) for key in ABOUT if key in dataset.attrs}
    return Converted(measurement, units, about, extra, {"mask": dims}, tuple(notes), facts, text)


def _variable(source: Path | Given, dataset: xr.Dataset, name: str) -> xr.DataArray:
    if name not in dataset.variables or dataset[name].dtype.kind not in "biuf":
        numeric = [str(n) for n, v in dataset.data_vars.items() if v.dtype.kind in "biuf" and v.ndim]
        numeric = numeric or variables_of_groups(source)
        found = f"'{name}', which holds no real numbers" if name in dataset.variables else f"no variable '{name}'"
        expected = f"one of {', '.join(numeric)}" if numeric else "a variable of real numbers, of which it has none"
        raise InfieldError(where=source, found=found, expected=expected)
    return dataset[name]


def _axes(
    source: Path | Given, dataset: xr.Dataset, field: xr.DataArray, asked: Gridded
) -> tuple[list[Axis], dict[str, np.ndarray], list[str]]:
    """Axes in the order of CF, increasing; for each the indices of the file's cells; notes."""
    notes, found = [], {}
    for dim in map(str, field.dims):
        if dim not in dataset.variables:
            wide = [
                str(n)
                for n in dataset.variables
                if n != field.name and dim in dataset[n].dims and _is_curvilinear(dataset, n)
            ]
            notes.append(
                f"warning: '{dim}' has no coordinate ({' and '.join(wide)} vary along several axes): its cells are "
                "numbered, and distances count cells; `infield convert table` keeps the places, as points"
                if wide
                else f"'{dim}' has no coordinate: its cells are numbered"
            )
            found[dim] = (Column(dim, np.arange(field.sizes[dim], dtype=np.float64), "1"), np.arange(field.sizes[dim]))
            continue
        attributes = dict(dataset[dim].attrs)
        column, said = in_degrees(source, _coordinate(source, dataset, dim, attributes))
        notes += [said] if said else []
        kind, values = column.kind, column.values
        order = np.arange(len(values))
        if kind == "longitude" and column.units.startswith("degree"):
            column, order, note = _turned(column, asked, np.isfinite(valid(field)).swapaxes(0, field.dims.index(dim)))
            notes += [note] if note else []
        elif len(values) > 1 and values[0] > values[-1]:
            order = order[::-1]
            column = dataclasses.replace(column, values=values[::-1])
            notes.append(f"'{dim}' turned to increase")
        twice = column.values[:-1][np.diff(column.values) == 0]
        if len(twice):
            raise InfieldError(
                where=f"{source}: '{dim}'",
                found=f"the coordinate {twice[0]:g} twice"
                + (f" (and {len(twice) - 1} more)" if len(twice) > 1 else ""),
                expected="each once",
                remedy="leave one of them out, or average both: xarray's drop_duplicates or groupby(...).mean()",
            )
        if (np.diff(column.values) <= 0).any():
            raise InfieldError(
                where=f"{source}: '{dim}'", found="coordinates in no order", expected="increasing or decreasing ones"
            )
        found[dim] = (column, order)
    ranked = sorted(found, key=lambda dim: ORDER.index(found[dim][0].kind))
    if ranked != list(found):
        notes.append(f"axes exchanged from ({', '.join(found)}) to ({', '.join(ranked)})")
    columns = {dim: found[dim][0] for dim in ranked}
    axes = [Axis(dim, tuple(c.values.tolist()), c.units, c.periodic) for dim, c in columns.items()]
    return axes, {dim: found[dim][1] for dim in ranked}, notes


def _coordinate(source: Path | Given, dataset: xr.Dataset, dim: str, attributes: Mapping[str, Any]) -> Column:
    """Finite numbers along a dimension."""
    try:
        values = snap(dataset[dim].values.astype(np.float64))
    except (ValueError, TypeError) as error:
        raise InfieldError(
            where=f"{source}: '{dim}'",
            found=f"coordinates such as '{dataset[dim].values.ravel()[0]}'",
            expected="numbers",
            remedy="take one of them ({select}), or write numbers in their place",
            parameters={"select": f"{dim}=0"},
        ) from error
    if not np.isfinite(values).all():
        raise InfieldError(
            where=f"{source}: '{dim}'",
            found=f"{int((~np.isfinite(values)).sum())} of {len(values)} coordinates that are missing or infinite",
            expected="finite coordinates",
            remedy="leave these cells out, or mend the coordinate",
        )
    return Column(dim, values, str(attributes.get("units", "1")), kind_of(dim, attributes), attributes)


def _is_curvilinear(dataset: xr.Dataset, name: Any) -> bool:
    """Whether a variable of several axes holds longitudes or latitudes: a curvilinear grid."""
    return dataset[name].ndim > 1 and kind_of(str(name), attributes_of_axis(dataset, name)) in ("longitude", "latitude")


def _turned(column: Column, asked: Gridded, present: np.ndarray) -> tuple[Column, np.ndarray, str]:
    """Longitudes of a grid, increasing from where they are cut open, each once: of two, the one with more data stays.

    Arguments:
        column: The longitudes.
        asked: Where they are cut.
        present: Where there are data, longitudes first.
    """
    values, notes = column.values, []
    order = np.arange(len(values))
    around = np.mod(values, CIRCLE)
    if len(values) > 2 and np.isclose(around[0], around[-1], atol=1e-6) and abs(np.ptp(values)) > CIRCLE / 2:
        kept, other = (0, -1) if present[0].sum() >= present[-1].sum() else (-1, 0)
        order = order[:-1] if kept == 0 else order[1:]
        lost = int((present[other] & ~present[kept]).sum())
        notes.append(f"'{column.name}' has its first point twice, 360 degrees apart: one was left out"
                     + (f", and {lost} values that only it has" if lost else ""))  # fmt: skip
    steps = np.diff(np.sort(around[order]))
    step = float(np.median(steps)) if len(steps) else 1.0
    turned, note = cut_open(dataclasses.replace(column, values=values[order]), step, asked.wrap, asked.closed)
    ranks = np.argsort(turned.values, kind="stable")
    increasing = turned.values[ranks]
    if turned.periodic:
        even = np.allclose(np.diff(increasing), CIRCLE / len(increasing), rtol=1e-3)
        turned = dataclasses.replace(turned, periodic=even)
        note = note if even else ""
    if note or not np.array_equal(ranks, np.arange(len(ranks))):
        notes.append(note or f"'{column.name}' turned to increase")
    return dataclasses.replace(turned, values=increasing), order[ranks], "; ".join(notes)


def _carried(
    dataset: xr.Dataset,
    field: xr.DataArray,
    axes: list[Axis],
    index: Mapping[str, np.ndarray],
    cut: xr.Dataset,
    left_out: tuple[str, ...],
    land: np.ndarray | None,
) -> tuple[xr.Dataset, dict[str, dict[str, Any]]]:
    """Variables and attributes that go along: those of CF, bounds, the mapping, places that were chosen, land."""
    variables: dict[str, Any] = {}
    about: dict[str, dict[str, Any]] = {"data": {"long_name": str(field.name), **_kept(field.attrs)}}
    about["data"].pop("ancillary_variables", None)
    about["data"].pop("cell_measures", None)
    for axis in axes:
        attributes = _kept(attributes_of_axis(dataset, axis.name))
        bounds = str(attributes.get("bounds", ""))
        about[axis.name] = attributes
        if bounds in dataset.variables and dataset[bounds].dims[0] == axis.name:
            values = dataset[bounds].values[index[axis.name]]
            nominal = dataset[axis.name].values[index[axis.name]]
            unit = np.pi / 180 if str(attributes_of_axis(dataset, axis.name).get("units")) in RADIANS else 1.0
            shift = np.asarray(axis.coordinates) - nominal / unit  # by whole turns of longitudes
            pair = np.sort(values / unit + shift[:, None], axis=1)
            variables[bounds] = ((axis.name, "bnds"), pair, {})
        else:
            attributes.pop("bounds", None)
    mapping = str(field.attrs.get("grid_mapping", field.encoding.get("grid_mapping", "")))
    if mapping in dataset.variables:
        about["data"]["grid_mapping"] = mapping
        variables[mapping] = ((), np.int32(0), dict(dataset[mapping].attrs))
    else:
        about["data"].pop("grid_mapping", None)
    for name in left_out:
        if name in cut.variables and cut[name].ndim == 0:
            attributes = {k: v for k, v in _kept(cut[name].attrs).items() if k != "bounds"}
            attributes |= {"units": cut[name].attrs["units"]} if "units" in cut[name].attrs else {}
            variables[name] = ((), np.float64(cut[name].values), attributes)
    if land is not None:
        variables[LAND] = (tuple(a.name for a in axes), land.astype(np.int8), dict(LAND_FLAGS))
    return xr.Dataset(variables), about


def _kept(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes that remain valid after unpacking, cutting and turning; units are kept elsewhere."""
    gone = (*STORED, "units", "valid_range", "valid_min", "valid_max", "_Unsigned")
    return {str(k): v.tolist() if isinstance(v, np.generic) else v for k, v in attributes.items() if k not in gone}
