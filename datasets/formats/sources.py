"""What a file of ours may lie in for reading: a zarr group in a folder or a zip archive, or a netCDF file."""

from __future__ import annotations

import zipfile
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import xarray as xr
import zarr
from zarr.storage import ZipStore

METADATA_FILES = ("zarr.json", ".zarray", ".zgroup")  # format 3, and format 2 which is read as well


def is_netcdf(path: Path) -> bool:
    """Whether a file is netCDF, classic or HDF5, by its first bytes."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        start = file.read(8)
    return start.startswith((b"CDF\x01", b"CDF\x02", b"CDF\x05", b"\x89HDF\r\n\x1a\n"))


def open_zarr_group(path: Path) -> zarr.Group:
    """The zarr group of a folder, or of a zip archive of one."""
    store, group = _location(path)
    return zarr.open_group(store, path=group, mode="r", use_consolidated=False)


def open_xarray(path: Path, *, indexes: bool = True) -> xr.Dataset:
    """The same, or a netCDF file, as xarray has it; nothing is loaded, and times stay numbers.

    Arguments:
        path: Of the file.
        indexes: Whether coordinates get indexes, for which xarray imports Dask's arrays and pint: half a second of a
            processor where values are only read.
    """
    if is_netcdf(path):
        dataset = xr.open_dataset(path, chunks=None, decode_times=False, create_default_indexes=indexes)
        dataset.attrs = {key: _plain(value) for key, value in dataset.attrs.items()}
        return dataset
    store, group = _location(path)
    return xr.open_zarr(
        store,
        group=group or None,
        consolidated=False,
        chunks=None,
        decode_times=False,
        create_default_indexes=indexes,
    )


def _location(path: Path) -> tuple[Any, str]:
    """Store and group: of an archive, the outermost folder that has metadata."""
    if not (path.is_file() and zipfile.is_zipfile(path)):
        return path, ""
    with zipfile.ZipFile(path) as archive:
        folders = [PurePosixPath(n).parent for n in archive.namelist() if PurePosixPath(n).name in METADATA_FILES]
    outermost = min(folders, key=lambda folder: len(folder.parts), default=PurePosixPath("."))
    return ZipStore(path, mode="r", read_only=True), "" if str(outermost) == "." else str(outermost)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value
