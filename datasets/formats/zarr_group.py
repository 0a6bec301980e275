"""Zarr groups of ours on disk: opened with one-line errors, written so that a result is whole or is not there."""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr
from xarray.backends import ZarrStore
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.errors import GroupNotFoundError

from infield.core.checks import is_whole
from infield.core.errors import InfieldError
from infield.core.local_path import local_path
from infield.datasets.formats.output_lock import check_free, writing
from infield.datasets.formats.sources import METADATA_FILES, is_netcdf, open_xarray, open_zarr_group

CONVENTIONS = "CF-1.11"


def refusal(path: Path, key: str, found: object, expected: object, remedy: str = "") -> InfieldError:
    """The one line with which a file is refused: which file, which key, what was found, what was expected."""
    found, expected, remedy = (" ".join(f"{text}".split()) for text in (found, expected, remedy))
    return InfieldError(where=f"{path}: '{key}'", found=found, expected=expected, remedy=remedy)


def open_group(path: Path, kind: str, version: int, *, indexes: bool = True) -> xr.Dataset:
    """Open a zarr group of ours without loading its arrays.

    Arguments:
        path: Directory of the group.
        kind: The `infield_format` that it must have.
        version: The newest `infield_version` that can be read.
        indexes: Whether coordinates get indexes (`sources.open_xarray`).

    Returns:
        The dataset, CF-decoded except for times: coordinates stay the numbers of the file.

    Raises:
        InfieldError: The path is missing or no zarr group, its metadata are damaged, or it is foreign or newer.
    """
    if not path.exists():
        raise InfieldError(
            where=path, found="nothing there", expected=f"a zarr group with an Infield {kind}", remedy="check the path"
        )
    try:
        attributes = open_xarray(path).attrs if is_netcdf(path) else dict(open_zarr_group(path).attrs)
    except (GroupNotFoundError, NotADirectoryError, FileNotFoundError):
        raise InfieldError(where=path, found="no zarr group there", expected=f"one with an Infield {kind}") from None
    except Exception as error:  # zarr passes on whatever its parsers raise
        raise _damaged(path, "zarr.json", error) from error
    _check_format(path, attributes, kind, version)
    _check_metadata_present(path)
    try:
        return open_xarray(path, indexes=indexes)
    except Exception as error:
        raise _damaged(path, "zarr.json", error) from error


def _damaged(path: Path, key: str, error: Exception) -> InfieldError:
    return refusal(
        path,
        key,
        f"{type(error).__name__}: {error}",
        "readable zarr contents",
        "the file is truncated or corrupt, copy or write it again",
    )


def _check_format(path: Path, attributes: Mapping[str, Any], kind: str, version: int) -> None:
    found = attributes.get("infield_format")
    if found != kind:
        raise refusal(path, "infield_format", "nothing" if found is None else repr(found), repr(kind))
    found = attributes.get("infield_version")
    if not is_whole(found, 1):
        raise refusal(path, "infield_version", repr(found), f"a whole number from 1 to {version}")
    if found > version:
        raise refusal(path, "infield_version", found, f"at most {version}", "this file needs a newer Infield")


def _check_metadata_present(path: Path) -> None:
    """A variable that lost its metadata is invisible to zarr, chunks and all; here it is noticed."""
    if path.is_file():  # an archive or a netCDF file has its own directory
        return
    for entry in sorted(path.iterdir()):
        hidden = entry.name.startswith((".", "__"))
        if entry.is_dir() and not hidden and not any((entry / name).exists() for name in METADATA_FILES):
            raise refusal(
                path,
                entry.name,
                "a directory without zarr metadata",
                "zarr.json in it",
                "the file is truncated, copy or write it again",
            )


def json_attribute(path: Path, group: xr.Dataset, key: str) -> dict[str, Any]:
    """Read the group attribute `key`, a JSON object written as a string (a nested attribute is taken as well)."""
    if key not in group.attrs:
        raise refusal(path, key, "no such attribute", "a JSON object", f"the group has {sorted(group.attrs)}")
    value = group.attrs[key]
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except json.JSONDecodeError as error:
            raise refusal(path, key, f"text that is no JSON ({error})", "a JSON object") from None
    if not isinstance(value, dict):
        raise refusal(path, key, type(value).__name__, "a JSON object")
    return value


def variable(path: Path, group: xr.Dataset, name: str) -> xr.DataArray:
    """Load one variable or coordinate, numbers only and all of them finite."""
    if name not in group.variables:
        raise refusal(path, name, "no such variable", f"one of {sorted(map(str, group.variables))}")
    loaded = loaded_variable(path, group, name)
    if loaded.dtype.kind not in "biufc":
        raise refusal(path, name, f"values of type {loaded.dtype}", "numbers")
    bad = int(loaded.size - np.isfinite(loaded.values).sum())
    if bad:
        raise refusal(path, name, f"NaN or infinity in {bad} of {loaded.size} values", "finite values")
    return loaded


def loaded_variable(path: Path, group: xr.Dataset, name: str) -> xr.DataArray:
    """Load a variable of any type, whole."""
    check_chunks(path, name, zeros_may_be_absent=True)
    try:
        lazy = group[name]
        _ = lazy.values  # kept by xarray; the method `load` imports Dask, a quarter of a second of a processor
        return lazy
    except Exception as error:  # zarr passes on whatever its codecs raise
        raise _damaged(path, name, error) from error


def flags(path: Path, group: xr.Dataset, name: str) -> xr.DataArray:
    """Load a variable of 0 and 1 (or booleans) as booleans."""
    loaded = variable(path, group, name)
    if not np.isin(loaded.values, (0, 1)).all():
        raise refusal(path, name, "values other than 0 and 1", "only 0 and 1")
    return loaded.astype(bool)


def check_chunks(path: Path, name: str, *, zeros_may_be_absent: bool) -> None:
    """Refuse a variable of which a part is not on disk; zarr itself reads the fill value there without an error.

    Arguments:
        path: Directory of the group.
        name: The variable.
        zeros_may_be_absent: Whether a chunk may be absent where the fill value is 0. That is how zarr stores a chunk of
            zeros, unless configured otherwise; any other fill value marks what was never written.

    Raises:
        InfieldError: A chunk is missing.
    """
    if is_netcdf(path):
        return
    try:
        array = open_zarr_group(path)[name]
    except Exception as error:  # a chunk of size 0, a codec that is none
        raise _damaged(path, name, error) from error
    assert isinstance(array, zarr.Array)
    if zeros_may_be_absent and (array.fill_value is None or array.fill_value in (0, "")):
        return
    try:
        present, chunks = array.nchunks_initialized, array.nchunks
    except ZeroDivisionError as error:  # a chunk of size 0
        raise _damaged(path, name, error) from error
    if present < chunks:
        remedy = "the file is truncated, copy or write it again"
        raise refusal(path, name, f"{present} of {chunks} chunks on disk", "all of them", remedy)


def checked(level: int = 0) -> list[Any]:
    """Compressors of every array that is written: the checksum detects a flipped bit, which zstd alone decodes to other
    numbers."""
    return [ZstdCodec(level=level), Crc32cCodec()]


def lay_out_group(path: Path, coordinates: xr.Dataset) -> zarr.Group:
    """Write coordinates and attributes to a new group, each array with a checksum, and open it for more."""
    encoding = {str(name): {"compressors": checked()} for name in coordinates.variables}
    store = ZarrStore.open_group(path, mode="w", zarr_format=3, consolidated=False)
    coordinates.dump_to_store(store, writer=_InMemory(), encoding=encoding)
    return zarr.open_group(path, mode="r+", use_consolidated=False)


class _InMemory:
    """Writes what is in memory; the writer of xarray imports Dask to see whether it is."""

    def add(self, source: np.ndarray, target: zarr.Array, region: tuple[slice, ...]) -> None:
        target[region] = source


def check_new(path: Path, overwrite: bool) -> None:
    """Refuse an output that exists or cannot be written, and never let anything that is no zarr group be replaced."""
    local_path(path)
    folder = next(parent for parent in path.absolute().parents if parent.exists())  # its children are made when needed
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        kind = "a folder that may not be written" if folder.is_dir() else "no folder"
        raise InfieldError(
            where=path, found=f"that {folder} is {kind}", expected="one for the output", remedy="choose another path"
        )
    check_free(path)
    if not os.path.lexists(path):
        return
    if not overwrite:
        raise InfieldError(
            where=path,
            found="an existing output",
            expected="a new path",
            remedy="choose another, or replace it ({overwrite})",
            parameters={"overwrite": True},
        )
    if not path.is_dir() or not any((path / name).exists() for name in METADATA_FILES):
        raise InfieldError(
            where=path, found="something that is no zarr group, which is never overwritten", remedy="choose another"
        )


def publish(finished: Path, path: Path, overwrite: bool, last: Mapping[str, Any] | None = None) -> None:
    """Rename a finished group to its final path, where it appears whole or not at all.

    Its metadata are consolidated, so that `xarray.open_zarr` opens it with one read and without a warning.

    Arguments:
        finished, path: Where it is, and where it is to be.
        overwrite: Whether a group at `path` is replaced.
        last: Attributes that are written last of all, e.g. that it is complete.
    """
    check_new(path, overwrite)
    with warnings.catch_warnings():  # the metadata of all arrays in one place is no part of zarr 3's specification yet
        warnings.simplefilter("ignore")
        group = zarr.consolidate_metadata(finished)
    if last:
        group.attrs.update(dict(last))
    replaced = path.with_name(path.name + ".replaced")
    if path.exists():
        shutil.rmtree(replaced, ignore_errors=True)
        path.rename(replaced)
    finished.rename(path)
    shutil.rmtree(replaced, ignore_errors=True)


def write_group(
    path: Path, dataset: xr.Dataset, *, overwrite: bool = False, encoding: Mapping[str, Any] | None = None
) -> None:
    """Write a dataset as a group; it appears under its name only when it is whole.

    Arguments:
        path: The group to write.
        dataset: All of it, with its attributes.
        overwrite: Whether a group at `path` is replaced.
        encoding: Of its variables, as xarray has it.

    Raises:
        InfieldError: The path exists, another process is writing it, or the disk is full.
    """
    check_new(path, overwrite)
    draft = path.with_name(path.name + ".draft")
    with explain_disk_full(path, "make room and start again"), writing(path):
        shutil.rmtree(draft, ignore_errors=True)
        try:
            dataset.to_zarr(draft, mode="w", zarr_format=3, consolidated=False, encoding=encoding)
            publish(draft, path, overwrite)
        except BaseException:
            remove_tree(draft)
            raise


@contextmanager
def explain_disk_full(path: Path, remedy: str) -> Iterator[None]:
    """Turn "no space left on device", however deep zarr has wrapped it, into one line."""
    try:
        yield
    except Exception as error:
        number = _no_room(error)
        if number is None:
            raise
        full = f"the disk that holds {path.parent.resolve()} is full"
        limit = "a file would exceed the size that this process or its file system allows (ulimit -f)"
        quota = f"the quota on the disk that holds {path.parent.resolve()} is used up"
        reason = {errno.ENOSPC: full, errno.EDQUOT: quota, errno.EFBIG: limit}[number]
        raise InfieldError(reason, where=path, remedy=remedy) from error


def remove_tree(folder: Path) -> None:
    """Remove a folder after a failed zarr write, retrying while zarr's other writers recreate files."""
    gone = 0
    for _ in range(100):
        shutil.rmtree(folder, ignore_errors=True)
        time.sleep(0.02)
        gone = 0 if folder.exists() else gone + 1
        if gone == 5:
            return


def _no_room(error: BaseException | None) -> int | None:
    """The number of the operating system's error where what was written has no room, however deep it is wrapped."""
    if error is None:
        return None
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return error.errno
    wrapped = error.exceptions if isinstance(error, BaseExceptionGroup) else ()
    found = (_no_room(inner) for inner in (*wrapped, error.__cause__, error.__context__))
    return next((number for number in found if number is not None), None)
