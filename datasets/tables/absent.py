"""Chunks of a zarr array that are not on disk: zarr reads its fill value there and says nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import xarray as xr
import zarr

from infield.core.errors import InfieldError
from infield.datasets.tables.given import Given


def unwritten_chunks(
    source: Path | Given, group: str, stored: xr.DataArray, values: np.ndarray, *, stated: bool
) -> list[str]:
    """A note where chunks are absent and their cells count as missing.

    zarr does not write a chunk of nothing but the fill value, unless told to: where that value is a number, nobody can
    tell a chunk of such data from one that was lost.

    Arguments:
        source: The file.
        group: Of the variable.
        stored: The variable.
        values: Of it that are used, unpacked, NaN where missing.
        stated: Whether the caller takes all numbers as they are.

    Raises:
        InfieldError: Chunks are absent, and values that are used are the number that zarr puts there.
    """
    if not isinstance(source, Path) or not source.is_dir():
        return []
    path = f"{group}/{stored.name}" if group else str(stored.name)
    array = zarr.open_group(source, mode="r")[path]
    assert isinstance(array, zarr.Array)
    absent = array.nchunks - array.nchunks_initialized
    if absent <= 0:
        return []
    fill = 0.0 if array.fill_value is None else float(array.fill_value)
    read = fill * float(stored.encoding.get("scale_factor", 1.0)) + float(stored.encoding.get("add_offset", 0.0))
    found = int(np.isclose(values, read, rtol=1e-6).sum()) if np.isfinite(read) else 0
    if found and not stated:
        raise InfieldError(
            where=f"{source}: '{stored.name}'",
            found=f"{absent} of {array.nchunks} chunks not on disk, and {found} values {read:g}, zarr's for those",
            expected="all chunks: a lost one cannot be told from one of such values",
            remedy="let this number count as missing ({missing}), or say that these are values ({no_missing})",
            parameters={"missing": int(read) if read == round(read) else read, "no_missing": None},
        )
    if found:
        return []
    return [f"{absent} of {array.nchunks} chunks of '{stored.name}' are not on disk: their cells count as missing"]
