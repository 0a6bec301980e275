"""A table of data at scattered places, whatever file holds it: its columns by name, with their attributes."""

from __future__ import annotations

import bz2
import codecs
import gzip
import lzma
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd
import xarray as xr

from infield.core import registry
from infield.core.errors import InfieldError
from infield.core.extras import missing_extra
from infield.datasets.tables.dataset import open_dataset, valid
from infield.datasets.tables.given import Given
from infield.datasets.tables.number_text import reason, to_numbers

ROWS_SEEN = 1000
"""Rows of a text in which decimal commas are looked for."""

COMPRESSED: dict[str, Any] = {".gz": gzip.open, ".xz": lzma.open, ".bz2": bz2.open}


@dataclass(frozen=True)
class Table:
    """Rows of columns.

    Arguments:
        frame: The columns; numbers, text or times.
        attributes: Of columns, as CF writes them (`units`, `standard_name`, ...), by name.
        about: Attributes of the whole file (`title`, `history`, ...).
    """

    frame: pd.DataFrame
    attributes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    about: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Layout:
    """What a text file leaves open.

    Arguments:
        columns: Names of its columns, where it has no header.
        missing: Numbers or text that stand for missing values, e.g. -9999 or "trace".
        no_missing: Whether such numbers are values like the others where they are not named.
        dates: Whether of dates such as 03/04/2020 the day or the month is first: "day-first" or "month-first".
        names: The columns to read; formats that can read single columns read these alone.
    """

    columns: tuple[str, ...] = ()
    missing: tuple[float | str, ...] = ()
    no_missing: bool = False
    dates: str | None = None
    names: tuple[str, ...] = ()


def open_table(path: Path | Given, layout: Layout) -> Table:
    """Read a table by the suffix of its file, before `.gz`, `.xz` or `.bz2`; other suffixes are read as text.

    Raises:
        InfieldError: The file is missing, empty or not of the format of its suffix, or lacks a column.
    """
    table = _in_memory(path) if isinstance(path, Given) else _of_file(path, layout)
    frame = table.frame
    if not len(frame):
        raise InfieldError(where=path, found="no rows", expected="a table of data")
    for wanted in layout.names:
        if wanted not in frame:
            raise InfieldError(
                where=path,
                found=f"no column '{wanted}'",
                expected=f"one of {', '.join(map(str, frame.columns))}",
                remedy="name them where the file has no header ({columns})",
                parameters=["columns"],
            )
    for stated in layout.missing:
        frame = frame.mask(frame.apply(lambda column, stated=stated: _stands_for_missing(column, stated)))
    return replace(table, frame=frame)


def _stands_for_missing(column: pd.Series, stated: float | str) -> pd.Series:
    if isinstance(stated, str):
        return column.astype(str).str.strip() == stated
    if column.dtype.kind in "iuf":
        return column == stated
    return pd.to_numeric(column, errors="coerce") == stated if column.dtype.kind == "O" else column != column


def _of_file(path: Path, layout: Layout) -> Table:
    if not path.exists():
        raise InfieldError(where=path, found="nothing there", expected="a table", remedy="check the path")
    suffix = (path.with_suffix("") if path.suffix in COMPRESSED else path).suffix.lower()
    name = f"table{suffix}"
    read = registry.load("readers", name if suffix and registry.known("readers", name) else "table.csv")
    table: Table = read(path, layout)
    return table


def _in_memory(given: Given) -> Table:
    """Of single columns `attrs["units"]` counts, as pandas and Parquet keep it."""
    frame = given.values
    assert isinstance(frame, pd.DataFrame)
    return Table(frame, _units(frame))


def _units(frame: pd.DataFrame) -> dict[str, dict[str, Any]]:
    return {name: {"units": frame[name].attrs["units"]} for name in frame if "units" in frame[name].attrs}


def read_text(path: Path, layout: Layout) -> Table:
    """Columns parted by commas, semicolons, tabs or blanks; a header may follow `#`.

    Raises:
        InfieldError: It is no text, or its rows are of several lengths.
    """
    try:
        encoding = _encoding(path)
        comments, first, rest = _head(path, encoding)
        separator = _separator(first)
        width = len(_split(first, separator))
        header, names = 0, layout.columns
        if not names and _numeric(first, separator):
            names = next((found for c in reversed(comments) if len(found := _names(c)) == width), ())
            header = -1
        elif names and _numeric(first, separator):
            header = -1
        if names and len(names) != width:
            raise InfieldError(
                where=path, found=f"{width} columns", expected=f"as many as names, {len(names)}: {', '.join(names)}"
            )
        for name in layout.names:
            if (count := (names or _cells(first, separator)).count(name)) > 1:
                raise InfieldError(
                    where=path,
                    found=f"{count} columns '{name}'",
                    expected="one of each name",
                    remedy="give each column a name of its own",
                )
        options: dict[str, Any] = {
            "sep": separator,
            "skiprows": len(comments),
            "header": None if header < 0 else 0,
            "names": [n.strip() for n in names] if names else None,
            "decimal": "," if separator != "," and _decimal_commas(first, *rest) else ".",
            "encoding": encoding,
            "skipinitialspace": True,
            "engine": "c",
            "low_memory": False,
        }
        frame = pd.read_csv(path, **options)
        if not isinstance(frame.index, pd.RangeIndex):  # pandas takes the first columns for an index
            if not frame.iloc[:, -frame.index.nlevels :].isna().all(axis=None):
                raise InfieldError(
                    where=path,
                    found=f"{width + frame.index.nlevels} columns in its rows and {width} names in its header",
                    expected="a name for each",
                    remedy="complete the header",
                )
            frame = pd.read_csv(path, **options, index_col=False)  # rows end with a separator
    except (UnicodeDecodeError, OSError, EOFError, lzma.LZMAError, pd.errors.ParserError) as error:
        raise InfieldError(where=path, found=" ".join(str(error).split()), expected="a table of text") from error
    except pd.errors.EmptyDataError:
        raise InfieldError(where=path, found="nothing in it", expected="a table of data") from None
    frame.columns = [str(name).strip() for name in frame.columns]
    return Table(frame)


def read_parquet(path: Path, layout: Layout) -> Table:
    """Apache Parquet; needs pyarrow (the extra `tables`).

    Raises:
        InfieldError: pyarrow is not installed, or the file is no Parquet.
    """
    try:
        frame = pd.read_parquet(path)
    except ImportError as error:
        raise missing_extra("pyarrow", "tables", where=path, instead="or write the table as text") from error
    except Exception as error:  # pyarrow passes on whatever its readers raise
        raise InfieldError(where=path, found=" ".join(str(error).split()), expected="Apache Parquet") from error
    return Table(frame.reset_index(drop=True), _units(frame))


def read_stations(path: Path, layout: Layout) -> Table:
    """Variables of netCDF or zarr along common dimensions, e.g. values (station, time) and places (station).

    Scales, offsets and fill values are applied; times stay the numbers of the file.

    Raises:
        InfieldError: A variable is missing, or a place lies along a dimension that the value has not (ragged arrays).
    """
    with open_dataset(path) as dataset:
        found = [name for name in layout.names if name in dataset.variables]
        for name in layout.names:
            if name not in dataset.variables:
                raise InfieldError(
                    where=path,
                    found=f"no variable '{name}'",
                    expected=f"one of {', '.join(map(str, dataset.variables))}",
                )
        value = dataset[found[0]]
        for name in found[1:]:
            if not set(dataset[name].dims) <= set(value.dims):
                raise InfieldError(
                    where=f"{path}: '{name}'",
                    found=f"it along {dataset[name].dims}",
                    expected=f"dimensions of '{found[0]}', {value.dims}",
                    remedy="ragged arrays are not read: give each datum its own place",
                )
        columns = {
            name: _values(dataset[name]).set_dims(dict(value.sizes)).transpose(*value.dims).values.ravel()
            for name in found
        }
        attributes = {name: dict(dataset[name].attrs) for name in found}
        frame = pd.DataFrame(columns)
        return Table(frame, attributes, {str(k): str(v) for k, v in dataset.attrs.items()})


def _values(values: xr.DataArray) -> xr.Variable:
    return xr.Variable(values.dims, valid(values) if values.dtype.kind in "iuf" else values.values)


def _encoding(path: Path) -> str:
    """UTF-8 with or without its mark, UTF-16 by its mark, else the Latin alphabet of Windows."""
    with COMPRESSED.get(path.suffix, open)(path, "rb") as file:
        start = file.read(1 << 20)
    if start.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(start)  # a letter may be cut at the end
    except UnicodeDecodeError:
        return "cp1252"
    return "utf-8-sig"


def _head(path: Path, encoding: str) -> tuple[list[str], str, list[str]]:
    """Comments and blank lines before the first row, that row, and some of the next."""
    opened: IO[str]
    comments: list[str] = []
    with COMPRESSED.get(path.suffix, open)(path, "rt", encoding=encoding) as opened:
        for line in opened:
            if line.strip() and not line.lstrip().startswith("#"):
                return comments, line.rstrip("\r\n"), [row.rstrip("\r\n") for row in islice(opened, ROWS_SEEN)]
            comments.append(line.strip().lstrip("#").strip())
    raise pd.errors.EmptyDataError


def _split(line: str, separator: str) -> Sequence[str]:
    return line.split() if separator == r"\s+" else line.split(separator)


def _cells(line: str, separator: str) -> tuple[str, ...]:
    return tuple(cell.strip().strip('"').strip() for cell in _split(line, separator))


def _separator(line: str) -> str:
    """What parts the columns: where there are semicolons or tabs, commas may be decimal ones."""
    return next((mark for mark in (";", "\t", ",") if mark in line), r"\s+")


def _decimal_commas(*rows: str) -> bool:
    rows = tuple(re.sub(r"\d{1,2}\.\d{1,2}\.(\d{4}|\d{2})|\d{4}\.\d{1,2}\.\d{1,2}", "", row) for row in rows)  # dates
    return any(re.search(r"\d,\d", row) for row in rows) and not any(re.search(r"\d\.\d", row) for row in rows)


def _names(comment: str) -> tuple[str, ...]:
    separator = _separator(comment)
    return tuple(name.strip() for name in _split(comment, separator))


def _numeric(line: str, separator: str) -> bool:
    """Whether no cell of a row could be a name: a header has no numbers."""

    def number(cell: str) -> bool:
        try:
            float(cell.replace(",", "."))
        except ValueError:
            return False
        return True

    return any(number(cell.strip().strip('"')) for cell in _split(line, separator))


def numbers(path: Path | Given, table: Table, name: str) -> np.ndarray:
    """A column as float64, NaN where it is empty.

    Raises:
        InfieldError: A cell is text that is no number, or the column holds times.
    """
    column = table.frame[name]
    if column.dtype.kind in "mM":
        raise InfieldError(where=f"{path}: '{name}'", found="times", expected="numbers")
    values = to_numbers(column)
    wrong = np.flatnonzero((values.isna() & column.notna()).to_numpy())
    if len(wrong):
        remedy, parameters = reason(column.iloc[wrong], int(wrong[0]))
        raise InfieldError(
            where=f"{path}: '{name}'",
            found=f"'{column.iloc[wrong[0]]}' in row {wrong[0] + 1} (and in {len(wrong) - 1} more)",
            expected="numbers",
            remedy=remedy,
            parameters=parameters,
        )
    return values.to_numpy(dtype=np.float64)


def attributes_of(table: Table, name: str) -> dict[str, Any]:
    """CF attributes of a column that go along: not how numbers were stored."""
    stored = ("_FillValue", "missing_value", "scale_factor", "add_offset", "coordinates", "actual_range", "bounds")
    return {key: value for key, value in table.attributes.get(name, {}).items() if key not in stored}
