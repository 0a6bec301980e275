"""Files of arrays with names, opened by what they hold and whatever they are called."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from infield.core.errors import InfieldError
from infield.datasets.formats.packing import PACKING, marked_in_words, within_range
from infield.datasets.tables.given import Given

STORED = (*PACKING, "coordinates", "actual_range", "dtype")
"""Attributes of how numbers were stored, or that no longer hold for a part."""


def named_group(path: Path | Given, variable: str) -> tuple[str, str]:
    """Group and name of a variable such as "ocean/surface/sst"; of others, and in memory, the group is empty."""
    group, _, name = variable.strip("/").rpartition("/")
    return (group, name) if isinstance(path, Path) and group else ("", variable)


def variables_of_groups(path: Path | Given) -> list[str]:
    """Variables of real numbers of a file's groups, as "group/name"; none where it cannot be told."""
    if not isinstance(path, Path):
        return []
    try:
        with warnings.catch_warnings(), xr.open_datatree(path, decode_times=False, **_engine(path)) as tree:
            return [
                f"{node.path.strip('/')}/{name}"
                for node in tree.subtree
                for name, v in node.data_vars.items()
                if v.dtype.kind in "biuf" and v.ndim and node.path != "/"
            ]
    except Exception:  # a remedy is sought, and none is better than a second error
        return []


def _engine(path: Path) -> dict[str, Any]:
    return {"engine": "zarr", "consolidated": False} if path.is_dir() else {"engine": "netcdf4"}


def open_dataset(path: Path | Given, group: str = "") -> xr.Dataset:
    """Open netCDF (3 or 4), HDF5 or zarr: scales, offsets, fill values and valid ranges applied, times as numbers.

    Arguments:
        path: The file.
        group: In it, with the coordinates of the groups that hold it; empty for its root.

    Raises:
        InfieldError: The path is missing, or none of these.
    """
    if isinstance(path, Given):
        assert isinstance(path.values, xr.Dataset)
        return path.values
    if not path.exists():
        raise InfieldError(where=path, found="nothing there", expected="netCDF or zarr", remedy="check the path")
    if path.is_file():
        with path.open("rb") as file:
            if file.read(19) == b"MATLAB 5.0 MAT-file":
                raise InfieldError(
                    where=path,
                    found="a MATLAB file of version 5",
                    expected="netCDF, HDF5 or zarr",
                    remedy="save it as HDF5 (MATLAB: save -v7.3), or from Python as netCDF with xarray",
                )
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Failed to open Zarr store with consolidated metadata")  # slower, no more
            dataset = xr.open_dataset(path, decode_times=False, chunks=None, group=group or None, **_engine(path))
            outer = group
            while outer:  # netCDF-4 and zarr: what a group lacks is sought in the one that holds it
                outer = outer.rpartition("/")[0]
                around = xr.open_dataset(path, decode_times=False, chunks=None, group=outer or None, **_engine(path))
                seen = [n for n, v in around.variables.items() if set(v.dims) <= set(dataset.dims)]
                dataset = dataset.assign({n: around[n] for n in seen if n not in dataset.variables})
    except Exception as error:  # the libraries pass on whatever they meet
        raise InfieldError(
            where=path, found=" ".join(f"{type(error).__name__}: {error}".split()), expected="netCDF, HDF5 or zarr"
        ) from error
    return dataset


def valid(values: xr.DataArray) -> np.ndarray:
    """Loaded values, NaN where they lie outside of the range that the file calls valid (in packed numbers, as CF has
    it), are infinite, marked as missing in words, or were never written (`never_written`)."""
    array = np.asarray(values.values, dtype=np.float64)
    stored = values.encoding
    scale, offset = float(stored.get("scale_factor", 1.0)), float(stored.get("add_offset", 0.0))
    unsigned = {"_Unsigned": stored["_Unsigned"]} if "_Unsigned" in stored else {}
    gone = never_written(values) | marked_in_words(array, stored.get("missing_value"), scale, offset)
    packed = np.dtype(stored["dtype"]) if "dtype" in stored else None
    array = within_range(np.where(gone, np.nan, array), {**values.attrs, **unsigned}, scale, offset, packed)
    return np.where(np.isfinite(array), array, np.nan)


def never_written(values: xr.DataArray) -> np.ndarray:
    """Where packed integers of a netCDF file hold netCDF's default fill value and the file names none of its own.

    The library fills with it what nobody wrote, and as a packed number it looks like a value (-327.67). Bytes have
    none (NetCDF Users Guide, "Fill Values").
    """
    stored = values.encoding
    dtype = np.dtype(stored.get("dtype", np.float64))
    marked = any(name in stored or name in values.attrs for name in ("_FillValue", "missing_value"))
    packed = "scale_factor" in stored or "add_offset" in stored
    of_zarr = "preferred_chunks" in stored and "filters" in stored
    fill = DEFAULT_FILLS.get(f"{dtype.kind}{dtype.itemsize}")
    if marked or not packed or of_zarr or fill is None:
        return np.zeros(values.shape, dtype=bool)
    scale = float(stored.get("scale_factor", 1.0))
    filled = fill * scale + float(stored.get("add_offset", 0.0))
    return np.abs(np.asarray(values.values, dtype=np.float64) - filled) <= abs(scale) / 4


DEFAULT_FILLS = {"i2": -32767, "u2": 65535, "i4": -2147483647, "u4": 4294967295}
"""`NC_FILL_SHORT` and its like of netcdf.h."""


def zeros_as_gaps(values: xr.DataArray) -> int:
    """How many zeros of a zarr array count as missing because its fill value is 0, zarr's own default in version 2."""
    fill = values.encoding.get("_FillValue")
    of_zarr = "filters" in values.encoding and "preferred_chunks" in values.encoding
    if not of_zarr or fill is None or not np.isscalar(fill) or fill != 0:
        return 0
    return int(np.isnan(np.asarray(values.values, dtype=np.float64)).sum())
