"""Adapter: many lightcones in one HDF5 file, as the code of Xia & Wise (arXiv 2605.29016, ml21cm) stacks them.

`brightness_temp (N, x, y, los)` in mK, `params/keys` and `params/values (N, parameters)` under 21cmFAST's names,
`seeds (N)`, `redshifts_distances (2, los)` with distances in Mpc, and `kwargs`, the settings of the simulator as pairs
of words. Where `redshifts_distances` is longer than the cones, its first entries count.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np

from infield.core.errors import InfieldError
from infield.datasets.cm21.lightcone_file import TEMPERATURE
from infield.datasets.cm21.readers.common import RawLightcones, UserMetadata
from infield.datasets.formats.foreign_arrays import plain_attributes, readable
from infield.datasets.formats.packing import unpacked

_AXIS = "redshifts_distances"


def is_stack(file: h5py.File) -> bool:
    """Whether a file has the stacked layout."""
    return _AXIS in file or ("params" in file and TEMPERATURE in file)


def stacked_cones(path: Path, file: h5py.File, stated: UserMetadata) -> RawLightcones:
    """The cones of a file that is open.

    Raises:
        InfieldError: A key is missing or does not fit the others.
    """
    name = stated.variable or TEMPERATURE
    for key in (name, _AXIS, "params/keys", "params/values"):
        if key not in file:
            raise InfieldError(where=f"{path}: '{key}'", found="no such key", expected="it in a stack of lightcones")
    cubes: h5py.Dataset = file[name]
    axis = np.asarray(file[_AXIS], dtype=float)
    if cubes.ndim != 4 or axis.ndim != 2 or axis.shape[0] != 2 or axis.shape[1] < cubes.shape[-1]:
        raise InfieldError(
            where=path,
            found=f"'{name}' of shape {cubes.shape} and '{_AXIS}' of shape {axis.shape}",
            expected="(cones, x, y, los) and (2, los)",
        )
    samples, nx, ny, depth = cubes.shape
    keys = [key.decode() if isinstance(key, bytes) else str(key) for key in file["params/keys"][()]]
    values = np.asarray(file["params/values"], dtype=float)
    if values.shape != (samples, len(keys)):
        raise InfieldError(
            where=f"{path}: 'params/values'",
            found=f"shape {values.shape}",
            expected=f"{(samples, len(keys))}: a cone was written without its parameters",
        )
    seeds = np.asarray(file["seeds"]).astype(np.int64) if "seeds" in file else None
    if seeds is not None and seeds.shape != (samples,):
        raise InfieldError(where=f"{path}: 'seeds'", found=f"shape {seeds.shape}", expected=f"{(samples,)}")
    settings = _settings(file)
    redshift, distance = axis[:, :depth]
    cell = _cell(path, settings, stated, nx, distance)
    return RawLightcones(
        path=path,
        format="ml21cm stack",
        samples=samples,
        points=(nx, ny),
        cell=cell,
        distance=distance,
        redshift=redshift,
        parameters={key: values[:, i] for i, key in enumerate(keys)},
        seeds=seeds,
        read=_reader(path, name),
        provenance={"simulator": "21cmFAST, by way of ml21cm", "field": name, "settings": settings},
        unused=("redshifts", "hubble", "omega_m", "units"),
    )


def _settings(file: h5py.File) -> dict[str, str]:
    if "kwargs" not in file:
        return {}
    pairs = np.asarray(file["kwargs"])
    words = [[w.decode() if isinstance(w, bytes) else str(w) for w in pair] for pair in pairs]
    return {key: value for key, value in words}


def _cell(path: Path, settings: dict[str, str], stated: UserMetadata, points: int, distance: np.ndarray) -> float:
    """Size of a cell across: from the settings or the user, else that along the line of sight, as 21cmFAST has it."""
    box = stated.box or settings.get("BOX_LEN")
    try:
        return float(np.diff(distance).mean()) if box is None else float(box) / points
    except ValueError:
        raise InfieldError(
            where=f"{path}: 'kwargs'",
            found=f"BOX_LEN {box!r}",
            expected="a number",
            remedy="({box})",
            parameters=["box"],
        ) from None


def _reader(path: Path, name: str) -> Callable[[int, slice], np.ndarray]:
    def read(sample: int, cells: slice) -> np.ndarray:
        with readable(path), h5py.File(path, "r") as file:
            return unpacked(np.asarray(file[name][sample, :, :, cells]), plain_attributes(file[name].attrs))

    return read
