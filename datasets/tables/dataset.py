"""Files of arrays with names, opened by what they hold and whatever they are called."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import xarray as xr

from infield.core.errors import InfieldError
from infield.datasets.formats.packing import PACKING, within_range
from infield.datasets.tables.given import Given

STORED = (*PACKING, "coordinates", "actual_range", "dtype")
"""Attributes of how numbers were stored, or that no longer hold for a part."""


def open_dataset(path: Path | Given) -> xr.Dataset:
    """Open netCDF (3 or 4), HDF5 or zarr: scales, offsets, fill values and valid ranges applied, times as numbers.

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
    engine = {"engine": "zarr", "consolidated": None} if path.is_dir() else {"engine": "netcdf4"}
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Failed to open Zarr store with consolidated metadata")  # slower, no more
            dataset = xr.open_dataset(path, decode_times=False, chunks=None, **engine)  # type: ignore[arg-type]
    except Exception as error:  # the libraries pass on whatever they meet
        raise InfieldError(
            where=path, found=" ".join(f"{type(error).__name__}: {error}".split()), expected="netCDF, HDF5 or zarr"
        ) from error
    return dataset


def valid(values: xr.DataArray) -> np.ndarray:
    """Loaded values, NaN where they lie outside of the range that the file calls valid (in packed numbers, as CF has
    it) or are infinite."""
    array = np.asarray(values.values, dtype=np.float64)
    scale, offset = values.encoding.get("scale_factor", 1.0), values.encoding.get("add_offset", 0.0)
    array = within_range(array, values.attrs, scale, offset)
    return np.where(np.isfinite(array), array, np.nan)


def zeros_as_gaps(values: xr.DataArray) -> int:
    """How many zeros of a zarr array count as missing because its fill value is 0, zarr's own default in version 2."""
    fill = values.encoding.get("_FillValue")
    of_zarr = "filters" in values.encoding and "preferred_chunks" in values.encoding
    if not of_zarr or fill is None or not np.isscalar(fill) or fill != 0:
        return 0
    return int(np.isnan(np.asarray(values.values, dtype=np.float64)).sum())
