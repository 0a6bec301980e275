"""The arrays of an HDF5, netCDF or zarr file by name, read part by part; a damaged file is refused in one line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr

from infield.core.errors import InfieldError
from infield.datasets.formats.packing import unpacked, within_range

Index = tuple[slice | int, ...]


@dataclass(frozen=True, kw_only=True)
class StoredArray:
    """An array on disk.

    Arguments:
        name: Its name, with its groups.
        shape: Its shape.
        dims: Names of its axes; None for an axis that has none.
        attributes: Its attributes.
        at: Reads a part of it.
    """

    name: str
    shape: tuple[int, ...]
    dims: tuple[str | None, ...]
    attributes: Mapping[str, Any]
    at: Callable[[Index], np.ndarray]

    @property
    def leaf(self) -> str:
        """Its name without its groups, in small letters."""
        return self.name.rsplit("/", 1)[-1].lower()

    def whole(self) -> np.ndarray:
        """All of it."""
        return self.at((slice(None),) * len(self.shape))


@dataclass(frozen=True)
class StoredArrays:
    """The arrays of a file, by name, and the attributes of the file."""

    path: Path
    arrays: Mapping[str, StoredArray]
    attributes: Mapping[str, Any]


@contextmanager
def open_arrays(path: Path) -> Iterator[StoredArrays]:
    """Open a file, whatever of the three formats it has; nothing of its arrays is read.

    Raises:
        InfieldError: Nothing is there, or it cannot be read.
    """
    if not path.exists():
        raise InfieldError(
            where=path,
            found="nothing there",
            expected="an HDF5 or netCDF file or a zarr group",
            remedy="check the path",
        )
    with ExitStack() as stack:
        with readable(path):
            plain = path.is_file() and h5py.is_hdf5(path) and path.suffix.lower() not in (".nc", ".nc4", ".cdf")
            found = _from_hdf5(path, stack) if plain else _from_xarray(path, stack)
        yield found


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Turn a library's error on a file that it cannot read into one line."""
    try:
        yield
    except InfieldError:
        raise
    except Exception as error:  # h5py, netCDF4, xarray and zarr pass on whatever they meet
        reason = " ".join(str(error).split())
        raise InfieldError(
            where=path,
            found=f"something that cannot be read ({type(error).__name__}: {reason})",
            expected="a whole HDF5 or netCDF file or zarr group",
            remedy="it is truncated, damaged or of another format, copy it again",
        ) from error


def _from_hdf5(path: Path, stack: ExitStack) -> StoredArrays:
    file = stack.enter_context(h5py.File(path, "r"))
    arrays: dict[str, StoredArray] = {}

    def visit(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset) and item.shape is not None and item.dtype.kind in "iuf":
            attributes = plain_attributes(item.attrs)

            def at(index: Index, dataset: h5py.Dataset = item, attribute: Mapping[str, Any] = attributes) -> np.ndarray:
                with readable(path):
                    return unpacked(np.asarray(dataset[index]), attribute)

            arrays[name] = StoredArray(name=name, shape=item.shape, dims=_hdf5_dims(item), attributes=attributes, at=at)

    file.visititems(visit)
    return StoredArrays(path, arrays, plain_attributes(file.attrs))


def _hdf5_dims(dataset: h5py.Dataset) -> tuple[str | None, ...]:
    """Names of axes from dimension labels, dimension scales, or an attribute `dims` or `axes`."""
    named: list[str | None] = []
    for dimension, scale in zip(dataset.dims, _scales(dataset), strict=True):
        named.append(dimension.label or scale)
    if not any(named):
        for key in ("dims", "axes"):
            attribute = plain_attributes(dataset.attrs).get(key)
            words = (
                attribute.replace(",", " ").split()
                if isinstance(attribute, str)
                else list(np.atleast_1d(attribute))
                if attribute
                else []
            )
            if len(words) == len(dataset.shape):
                return tuple(map(str, words))
    return tuple(named)


def _scales(dataset: h5py.Dataset) -> list[str | None]:
    """Name of the first dimension scale of each axis. Read from the attribute, as h5py's own way through libhdf5 ends
    the process where a scale was removed."""
    found: list[str | None] = [None] * dataset.ndim
    lists = dataset.attrs.get("DIMENSION_LIST")
    for axis, references in enumerate([] if lists is None else lists):
        try:
            scale = dataset.file[references[0]]
        except (IndexError, ValueError, KeyError, TypeError):  # an axis without a scale, or one that is gone
            continue
        if axis < dataset.ndim and scale.name:
            found[axis] = scale.name.rsplit("/", 1)[-1]
    return found


def plain_attributes(attributes: Any) -> dict[str, Any]:
    """Attributes as Python has them: text for bytes, numbers for arrays of one."""
    found: dict[str, Any] = {}
    for key in attributes:
        try:
            value = attributes[key]
        except OSError:  # of a type that h5py does not read
            continue
        if isinstance(value, np.ndarray) and value.size == 1:
            value = value.reshape(()).item()
        elif isinstance(value, np.generic):
            value = value.item()
        found[str(key)] = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return found


def _from_xarray(path: Path, stack: ExitStack) -> StoredArrays:
    options: dict[str, Any] = {"chunks": None, "decode_times": False}
    if path.is_dir():
        dataset = stack.enter_context(xr.open_zarr(path, consolidated=False, **options))
    else:
        dataset = stack.enter_context(xr.open_dataset(path, **options))
    arrays = {}
    for name, variable in dataset.variables.items():
        if variable.dtype.kind not in "iuf":
            continue

        def at(index: Index, variable: xr.Variable = variable) -> np.ndarray:
            with readable(path):
                scale, offset = variable.encoding.get("scale_factor", 1.0), variable.encoding.get("add_offset", 0.0)
                return within_range(np.asarray(variable[index].values), variable.attrs, scale, offset)

        arrays[str(name)] = StoredArray(
            name=str(name),
            shape=variable.shape,
            dims=tuple(map(str, variable.dims)),
            attributes=plain_attributes(variable.attrs),
            at=at,
        )
    return StoredArrays(path, arrays, plain_attributes(dataset.attrs))
