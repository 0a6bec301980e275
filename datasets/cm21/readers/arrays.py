"""Adapter: numpy arrays of lightcones, in an .npz file with names or a plain .npy array, as tools21cm has them.

*.npz*: `brightness_temp (cones, x, y, los)` or `(x, y, los)` in mK, or `brightness_temp_centi_mK`, integers in
hundredths of a mK; `redshift (los)` and, if known, `distance_Mpc (los)`; `box_len_Mpc` or `cell_Mpc`; if known `params
(cones, parameters)` with `param_names`, and `seed (cones)`. *.npy*: the array alone, `(x, y, los)` or `(cones, x, y,
los)`, with the redshifts stated (a file, .npy or a column of text), and the box in Mpc. Where distances are missing
they follow from redshifts and cosmology.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from infield.core.errors import InfieldError
from infield.datasets.cm21.cosmology import cosmology, distances_of
from infield.datasets.cm21.lightcone_file import TEMPERATURE
from infield.datasets.cm21.readers.common import RawLightcones, UserMetadata
from infield.datasets.cm21.readers.sanity import check_cell, check_distances, check_kelvin, check_redshifts

ASSUMED = "temperatures are taken to be in mK, as the file does not state units"
_UNITS = {"mK": 1.0, "K": 1e3}
_CENTI = "brightness_temp_centi_mK"
_NAMES = {"log10_Tvir_K": "ION_Tvir_MIN", "zeta_HII_EFF_FACTOR": "HII_EFF_FACTOR"}
"""Names of parameters that sets of ours have for those of 21cmFAST."""


def array_cones(path: Path, stated: UserMetadata) -> RawLightcones:
    """Lightcones of numpy arrays.

    Raises:
        InfieldError: The file is damaged or incomplete.
    """
    arrays, cubes, scale = _open(path, stated)
    if cubes.ndim not in (3, 4) or cubes.dtype.kind not in "iuf":
        raise InfieldError(
            where=path,
            found=f"{cubes.dtype} of shape {cubes.shape}",
            expected="numbers (x, y, los) or (cones, x, y, los)",
        )
    samples, nx, ny, depth = cubes.shape if cubes.ndim == 4 else (1, *cubes.shape)
    redshift = _redshifts(path, arrays, stated)
    if redshift.shape != (depth,):
        raise InfieldError(
            where=path,
            found=f"{redshift.size} redshifts",
            expected=f"{depth} for an array of shape {cubes.shape}, whose line of sight is the last axis",
            remedy="transpose it",
        )
    check_redshifts(stated.redshifts or path, redshift)
    distance = _distances(path, arrays, stated, redshift)
    cell = _cell(path, arrays, stated, nx)
    check_distances(path, distance, redshift)
    check_cell(path, cell, distance)
    assumed = stated.units is None and scale == 1
    if assumed:
        check_kelvin(path, np.asarray(cubes.reshape(samples, nx, ny, depth)[0]))
    elif stated.units is not None:
        scale *= _in_millikelvin(stated.units)
    return RawLightcones(
        path=path,
        format="numpy arrays",
        samples=samples,
        points=(nx, ny),
        cell=cell,
        distance=distance,
        redshift=redshift,
        parameters=_parameters(path, arrays, samples),
        seeds=np.asarray(arrays["seed"]).astype(np.int64).reshape(samples) if "seed" in arrays else None,
        read=_reader(cubes.reshape(samples, nx, ny, depth), scale),
        provenance={"simulator": "unknown: not stored with the arrays", "field": stated.variable or TEMPERATURE},
        history=(ASSUMED,) if assumed else (),
        notes=(ASSUMED,) if assumed else (),
        unused=("hubble", "omega_m") if _has_distances(arrays, stated) else (),
    )


def _open(path: Path, stated: UserMetadata) -> tuple[Mapping[str, Any], np.ndarray, float]:
    """Everything beside the cones, the cones, and what their numbers are multiplied with."""
    try:
        if path.suffix == ".npy":
            return {}, np.load(path, mmap_mode="r", allow_pickle=False), 1.0
        with np.load(path, allow_pickle=False) as file:
            wanted = [stated.variable] if stated.variable else [TEMPERATURE, _CENTI]
            name = next((name for name in wanted if name in file.files), None)
            if name is None:
                raise InfieldError(
                    where=path,
                    found=f"the arrays {', '.join(file.files)}",
                    expected=" or ".join(wanted),
                    remedy="({variable})",
                    parameters=["variable"],
                )
            others = {key: file[key] for key in file.files if key != name}
            return others, file[name], 0.01 if name == _CENTI else 1.0
    except (OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
        if isinstance(error, InfieldError):
            raise
        reason = " ".join(str(error).split())
        raise InfieldError(
            where=path, found=f"something that numpy cannot read ({reason})", expected=".npy or .npz"
        ) from error


def _redshifts(path: Path, arrays: Mapping[str, Any], stated: UserMetadata) -> np.ndarray:
    if stated.redshifts is None:
        if "redshift" not in arrays:
            raise InfieldError(
                where=path,
                found="no redshifts in it",
                expected="a file of them",
                remedy="({redshifts})",
                parameters=["redshifts"],
            )
        return np.asarray(arrays["redshift"], dtype=float)
    source = stated.redshifts
    try:
        found = np.load(source, allow_pickle=False) if source.suffix == ".npy" else np.loadtxt(source)
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InfieldError(
            where=source, found=f"no list of redshifts ({reason})", expected=".npy or one number a line"
        ) from None
    return np.asarray(found, dtype=float)


def _cell(path: Path, arrays: Mapping[str, Any], stated: UserMetadata, points: int) -> float:
    box = stated.box
    if box is None and "box_len_Mpc" in arrays:
        box = float(arrays["box_len_Mpc"])
    if box is None and "cell_Mpc" in arrays:
        box = float(arrays["cell_Mpc"]) * points
    if box is None or not 0 < box < np.inf:
        raise InfieldError(
            where=path,
            found=f"size {box} across",
            expected="the box in Mpc",
            remedy="({box})",
            parameters=["box"],
        )
    return box / points


def _in_millikelvin(units: str) -> float:
    if units not in _UNITS:
        raise InfieldError(where="{units}", found=f"'{units}'", expected="mK or K", parameters=["units"])
    return _UNITS[units]


def _has_distances(arrays: Mapping[str, Any], stated: UserMetadata) -> bool:
    return "distance_Mpc" in arrays and stated.redshifts is None


def _distances(path: Path, arrays: Mapping[str, Any], stated: UserMetadata, redshift: np.ndarray) -> np.ndarray:
    if _has_distances(arrays, stated):
        distance = np.asarray(arrays["distance_Mpc"], dtype=float)
        if distance.shape != redshift.shape:
            raise InfieldError(
                where=path, found=f"{distance.size} distances and {redshift.size} redshifts", expected="as many"
            )
        return distance
    default = cosmology()
    return distances_of(redshift, cosmology(stated.hubble or default.H0.value, stated.omega_m or default.Om0))


def _parameters(path: Path, arrays: Mapping[str, Any], samples: int) -> dict[str, np.ndarray]:
    if "params" not in arrays:
        return {}
    values = np.asarray(arrays["params"], dtype=float)
    names = [str(name) for name in np.atleast_1d(arrays.get("param_names", []))]
    if values.shape != (samples, len(names)):
        raise InfieldError(
            where=path,
            found=f"params of shape {values.shape} and {len(names)} param_names",
            expected=f"{samples} rows and a name for each column",
        )
    return {_NAMES.get(name, name): values[:, i] for i, name in enumerate(names)}


def _reader(cubes: np.ndarray, scale: float) -> Callable[[int, slice], np.ndarray]:
    def read(sample: int, cells: slice) -> np.ndarray:
        values = np.asarray(cubes[sample, :, :, cells], dtype=np.float64 if scale != 1 else None)
        return values if scale == 1 else values * scale

    return read
