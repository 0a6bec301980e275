"""A table of scattered data to a measurement: values at points, on a grid that covers them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from infield.core.errors import InfieldError
from infield.core.grid import Axis, Grid
from infield.datasets.formats.field import Field
from infield.datasets.tables.axes import NAMES, RADIANS, Column, check_degrees, cut_open, grid_line, in_order, kind_of
from infield.datasets.tables.converted import Converted, noise_model, noise_of, refuse_constant
from infield.datasets.tables.covariate_fields import on_grid
from infield.datasets.tables.given import Given
from infield.datasets.tables.hints import times_left_out, units_in_a_name, westward
from infield.datasets.tables.merged import contradiction, merge
from infield.datasets.tables.onto import along, field_of, grid_of, time_units
from infield.datasets.tables.projection import azimuthal_equidistant, centre_of, grid_mapping, reference_system
from infield.datasets.tables.stand_ins import refuse_stand_ins
from infield.datasets.tables.table import Layout, Table, attributes_of, numbers, open_table
from infield.datasets.tables.times import as_numbers, holds_dates
from infield.physics.measurement import Measurement
from infield.physics.operators.registry import build_operator
from infield.physics.units import NONE, Conversion, conversion, known_units, same_units

MAX_CELLS = 200_000_000


@dataclass(frozen=True)
class Scattered:
    """What to read of a table, and how.

    Arguments:
        value: Column of the data.
        at: Columns of their places, e.g. longitude, latitude, time.
        grid: Spacing of the grid: one number, or one for each of `at`; after projection, in kilometres.
        units: Of the data; those of the file where None.
        at_units: Of the places: one for each of `at`, or one for all but times; those of the file, or by the names.
        convert: Units to convert the data to.
        noise_std: Standard deviation of the noise, in the units of the data before conversion.
        noise_column: Column of such standard deviations. With neither, the variance is to be estimated.
        project: Whether degrees become kilometres.
        wrap: Longitude at which the circle is cut open.
        closed: Whether the axis of longitude is periodic; None where the data decide.
        calendar: Of dates.
        crs: Coordinate reference system of the places, e.g. "EPSG:25832"; the first two of `at` are x and y.
        onto: Measurement file whose field the data are of, in place of a grid.
        covariates: Gridded variables that go along in the context, each with its file.
        layout: What a text file leaves open.
    """

    value: str
    at: tuple[str, ...]
    grid: tuple[float, ...]
    units: str | None = None
    at_units: tuple[str, ...] = ()
    convert: str | None = None
    noise_std: float | None = None
    noise_column: str | None = None
    project: bool = False
    wrap: float | None = None
    closed: bool | None = None
    calendar: str | None = None
    crs: str | None = None
    onto: Path | None = None
    covariates: tuple[tuple[str, Path], ...] = ()
    layout: Layout = field(default_factory=Layout)


def convert_table(source: Path | Given, request: Scattered) -> Converted:
    """The measurement that a table is.

    Raises:
        InfieldError: The table, a column or a setting is not as needed; one line names it.
    """
    _check(request)
    known = None if request.onto is None else field_of(request.onto)
    noise_columns = () if request.noise_column is None else (request.noise_column,)
    table = open_table(source, replace(request.layout, names=(request.value, *request.at, *noise_columns)))
    rows, notes = len(table.frame), []
    repeated = 0
    if not table.attributes:  # all columns of the file are here
        copies = table.frame.duplicated()
        repeated = int(copies.sum())
        table = replace(table, frame=table.frame[~copies].reset_index(drop=True))
    if repeated:
        notes.append(f"{repeated} rows repeat another in every column and were left out")
    values = numbers(source, table, request.value)
    _refuse_stand_ins(source, request.value, values, request)
    columns = [_column(source, table, name, request, i, known) for i, name in enumerate(request.at)]
    columns, system = (columns, None) if request.crs is None else _in_system(columns, request.crs)
    stds = None if request.noise_column is None else numbers(source, table, request.noise_column)
    if stds is not None:
        _refuse_stand_ins(source, str(request.noise_column), stds, request)
    if request.units is None:
        notes += units_in_a_name(request.value, attributes_of(table, request.value))
    notes += [note for c in columns for note in westward(c)]
    kept = np.isfinite(values) & np.all([np.isfinite(c.values) for c in columns], axis=0)
    if stds is not None:
        kept &= np.isfinite(stds)
    dropped = len(values) - int(kept.sum())
    if dropped:
        notes.append(f"{dropped} of {rows} rows lack a value, a place or a noise level and were left out")
    if not kept.any():
        raise InfieldError(where=source, found="no row with a value and a place", expected="at least two")
    values, stds = values[kept], None if stds is None else stds[kept]
    columns = [replace(c, values=c.values[kept]) for c in columns]
    refuse_constant(source, request.value, values)
    convert = known.units if known is not None and known.units not in NONE else request.convert
    units, change = units_of(request.value, attributes_of(table, request.value), request.units, convert)
    values = change(values)
    if known is None:
        columns, more, mapping, steps = _laid_out(columns, request)
        mapping = mapping or system
        notes += more
    else:
        (columns, inside), mapping = along(columns, known), None
        if not inside.all():
            notes.append(f"{int((~inside).sum())} data lie outside of the field of {request.onto} and were left out")
            columns = [replace(c, values=c.values[inside]) for c in columns]
            values, stds = values[inside], None if stds is None else stds[inside]
            refuse_constant(source, request.value, values)
    variances = noise_of(source, request.noise_std, stds, len(values), abs(change.slope))
    places = np.stack([c.values for c in columns], axis=1)
    doubt = contradiction(places, values, variances)
    notes += [doubt] if doubt else []
    places, values, variances, first, merged = merge(places, values, variances)
    if merged:
        notes.append(
            f"{merged} data share the place of another and were merged by their noise"
            if variances is not None
            else f"{merged} data share the place of another: both stay, their difference determines the noise"
        )
        notes += times_left_out(table.frame, request.at)
    grid = _grid(columns, steps) if known is None else grid_of(known)
    description = {"name": "points", "arrays": {"coordinates": "positions"}}
    arrays = {"positions": places}
    measurement = Measurement(
        y=torch.from_numpy(values)[None, None],
        operator=build_operator(description, arrays, grid, 1),
        noise=noise_model(variances, values),
        grid=grid,
        channels=(request.value,) if known is None else known.channels,
        units=units,
        description=description,
        arrays=arrays,
        context={name: on_grid(name, path, grid) for name, path in request.covariates},
    )
    extra, about = _carried(columns, table, request, kept, first, mapping)
    return Converted(
        measurement,
        units,
        about,
        extra,
        {"data": ("obs",), "positions": ("obs", "axis"), "noise_variance": ("obs",)},
        tuple(notes),
        {
            "rows": rows,
            "data": len(values),
            "repeated_rows": repeated,
            "dropped_rows": dropped,
            "same_place": merged,
            "merged": merged if variances is not None else 0,
        },
        {key: str(table.about[key]) for key in ("title", "history") if key in table.about},
    )


def _check(request: Scattered) -> None:
    if request.onto is not None:
        for name in ("project", "wrap", "closed", "crs", "convert"):
            if getattr(request, name) not in (None, False):
                option = {"closed": "circle"}.get(name, name)
                raise InfieldError(
                    where=f"{{{option}}}", found="it beside {onto}", expected="one of them", parameters=[option, "onto"]
                )
    elif len(request.grid) not in (1, len(request.at)) or not all(np.isfinite(s) and s > 0 for s in request.grid):
        raise InfieldError(
            where="{grid}",
            found=" ".join(f"{s:g}" for s in request.grid),
            expected=f"one positive spacing, or one for each of {' '.join(request.at)}",
            parameters=["grid"],
        )
    if len({request.value, *request.at, request.noise_column or ""}) < 2 + len(request.at):
        raise InfieldError(where="{at}", found="a column named twice", expected="different ones", parameters=["at"])


def _column(source: Path | Given, table: Table, name: str, request: Scattered, i: int, known: Field | None) -> Column:
    """One axis, as numbers with units."""
    attributes = attributes_of(table, name)
    dates = holds_dates(table.frame[name])
    stored = "time" if dates else kind_of(name, attributes)
    stated = _stated(request, i, stored)
    if known is not None:
        stated = stated or time_units(known, stored)
    kind = kind_of(name, {**attributes, "units": stated} if stated else attributes)
    if dates or kind == "time" or (request.calendar is not None and _is_text(table, name)):
        try:
            values, units, calendar = as_numbers(
                name, table.frame[name], attributes, stated, request.calendar, request.layout.dates
            )
        except InfieldError as error:
            raise error.within(source) from error
        about = {**attributes, "standard_name": "time", "axis": "T", **({"calendar": calendar} if calendar else {})}
        return Column(name, values, units, "time" if " since " in units else "other", about)
    values = numbers(source, table, name)
    default = {"longitude": "degrees_east", "latitude": "degrees_north"}.get(kind, "1")
    units = stated or str(attributes.get("units", default))
    if kind in ("longitude", "latitude") and units in RADIANS:
        values = np.degrees(values)
    elif stated and kind in ("longitude", "latitude") and not stated.startswith("degree"):
        kind = "other"
    if kind in ("longitude", "latitude"):
        check_degrees(source, name, kind, values)
        axis = "X" if kind == "longitude" else "Y"
        return Column(name, values, default, kind, {**attributes, "standard_name": kind, "axis": axis})
    _refuse_stand_ins(source, name, values, request)
    return Column(name, values, units, kind, attributes)


def _refuse_stand_ins(source: Path | Given, name: str, values: np.ndarray, request: Scattered) -> None:
    if not request.layout.no_missing:
        refuse_stand_ins(source, name, values)


def _in_system(columns: list[Column], crs: str) -> tuple[list[Column], dict[str, Any]]:
    """The first two axes as x and y of a coordinate reference system, and the system."""
    mapping, units, degrees = reference_system(crs)
    if len(columns) < 2:
        raise InfieldError(where="{crs}", found="one axis", expected="two", parameters=["crs"])
    if degrees:  # the columns define which is longitude
        return columns, mapping
    found = []
    for column, unit, letter in zip(columns[:2], units, "xy", strict=True):
        if column.units not in NONE and not same_units(column.units, unit):
            raise InfieldError(
                where=f"axis '{column.name}'",
                found=f"units '{column.units}'",
                expected=f"'{unit}', those of {crs}",
                remedy="leave {at_units} out",
                parameters=["at_units"],
            )
        about = {**column.attributes, "standard_name": f"projection_{letter}_coordinate", "axis": letter.upper()}
        found.append(replace(column, units=unit, kind="other", attributes=about))
    return [*found, *columns[2:]], mapping


def _is_text(table: Table, name: str) -> bool:
    return table.frame[name].dtype.kind not in "biuf"


def _stated(request: Scattered, i: int, kind: str) -> str | None:
    """Units of a place that the caller states: one for each, or one for all that are no times."""
    if not request.at_units:
        return None
    if len(request.at_units) == len(request.at):
        return request.at_units[i]
    if len(request.at_units) == 1:
        return None if kind == "time" and " since " not in request.at_units[0] else request.at_units[0]
    raise InfieldError(
        where="{at_units}",
        found=f"{len(request.at_units)}",
        expected=f"one, or one for each of {' '.join(request.at)}",
        parameters=["at_units"],
    )


def _laid_out(
    columns: list[Column], request: Scattered
) -> tuple[list[Column], list[str], dict[str, Any] | None, dict[str, float]]:
    """Axes slowest first, turned and projected; notes; the projection; the spacing of each axis."""
    kinds, notes = {c.kind: c for c in columns}, []
    spacing = request.grid * len(columns) if len(request.grid) == 1 else request.grid
    steps = {c.name: step for c, step in zip(columns, spacing, strict=True)}
    for c in () if request.crs else columns:
        if c.kind == "other" and (NAMES["longitude"].match(c.name) or NAMES["latitude"].match(c.name)):
            if np.abs(c.values).max() <= 360:
                notes.append(
                    f"warning: '{c.name}' is stated in '{c.units}' and spans {c.values.min():g} to {c.values.max():g}: "
                    "degrees? leave {at_units} out, and {project} makes kilometres of degrees"
                )
    if "longitude" in kinds:
        step = 1e-9 if request.project else steps[kinds["longitude"].name]
        turned, note = cut_open(kinds["longitude"], step, request.wrap, False if request.project else request.closed)
        columns = [turned if c is kinds["longitude"] else c for c in columns]
        kinds["longitude"] = turned
        notes += [note] if note else []
    mapping = None
    if request.project:
        if not {"longitude", "latitude"} <= set(kinds):
            found = ", ".join(f"{c.name} ({c.units})" for c in columns)
            raise InfieldError(
                where="{project}", found=found, expected="longitude and latitude in degrees", parameters=["project"]
            )
        lon, lat = kinds["longitude"], kinds["latitude"]
        centre = centre_of(lon.values, lat.values)
        x, y, stretch = azimuthal_equidistant(lon.values, lat.values, centre)
        mapping = grid_mapping(centre)
        for old, name, values, letter in ((lon, "x", x, "X"), (lat, "y", y, "Y")):
            about = {"standard_name": f"projection_{name}_coordinate", "axis": letter}
            kind = "longitude" if name == "x" else "latitude"  # their places in the order of axes
            steps[name] = steps.pop(old.name)
            columns = [Column(name, values, "km", kind, about) if c is old else c for c in columns]
        notes.append(f"kilometres around {centre[0]:g} east, {centre[1]:g} north; lengths within {stretch - 1:.2%}")
    elif {"longitude", "latitude"} <= set(kinds):
        shrink = np.cos(np.radians(np.mean(kinds["latitude"].values)))
        if shrink < 0.95:
            notes.append(
                f"degrees are kept, one of longitude {shrink:.2f} of one of latitude here; {{project}} makes kilometres"
            )
    if len(request.grid) == 1 and len({"degrees" if c.units.startswith("degree") else c.units for c in columns}) > 1:
        raise InfieldError(
            where="{grid}",
            found=f"one spacing for axes in {', '.join(c.units for c in columns)}",
            expected=f"one for each of {' '.join(request.at)}",
            parameters=["grid"],
        )
    return in_order(columns), notes, mapping, steps


def _grid(columns: list[Column], steps: Mapping[str, float]) -> Grid:
    cells = 1.0
    for c in columns:
        cells *= np.ptp(c.values) / steps[c.name] + 1
    if cells > MAX_CELLS:
        raise InfieldError(
            where="{grid}",
            found=f"about {cells:.2g} cells",
            expected=f"at most {MAX_CELLS:g}",
            remedy="take a larger spacing",
            parameters=["grid"],
        )
    return Grid(tuple(Axis(c.name, grid_line(c, steps[c.name]), c.units, c.periodic) for c in columns))


def units_of(
    name: str, attributes: Mapping[str, Any], stated: str | None, convert: str | None
) -> tuple[str, Conversion]:
    """Units of data, and the conversion to the requested ones.

    Raises:
        InfieldError: There is no such conversion, or no units to convert from.
    """
    units = stated or str(attributes.get("units", "1"))
    if stated is not None and not known_units(stated):
        raise InfieldError(
            where="{units}",
            found=f"'{stated}'",
            expected="units as UDUNITS spells them, e.g. 'degC', 'm s-1' or '1'",
            parameters=["units"],
        )
    if convert is None:
        return units, Conversion(1.0)
    if units in NONE and convert not in NONE and stated is None:
        raise InfieldError(
            where=f"'{name}'",
            found="no units",
            expected=f"some to convert to '{convert}' from",
            remedy="state them ({units})",
            parameters=["units"],
        )
    return convert, conversion(units, convert)


def _carried(
    columns: list[Column],
    table: Table,
    request: Scattered,
    kept: np.ndarray,
    first: np.ndarray,
    mapping: dict[str, Any] | None,
) -> tuple[xr.Dataset | None, dict[str, dict[str, Any]]]:
    """Variables and attributes that go along: those of CF, the projection, places before it."""
    about: dict[str, dict[str, Any]] = {
        c.name: {k: v for k, v in c.attributes.items() if k != "units"} for c in columns
    }
    about["data"] = {"long_name": request.value, **attributes_of(table, request.value)}
    about["data"].pop("units", None)
    if mapping is None:
        return None, about
    about["data"]["grid_mapping"] = "crs"
    variables: dict[str, Any] = {"crs": ((), np.int32(0), mapping)}
    for name in request.at:
        kind = kind_of(name, attributes_of(table, name))
        if kind in ("longitude", "latitude") and name not in ("x", "y"):
            units = "degrees_east" if kind == "longitude" else "degrees_north"
            column = table.frame[name].to_numpy(dtype=np.float64)[kept][first]
            variables[name] = (("obs",), column, {"units": units, "standard_name": kind})
    return xr.Dataset(variables), about
