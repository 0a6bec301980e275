"""Adapter: lightcones as 21cmFAST itself saves them, `LightCone.save` of versions 4 and 3, read with h5py alone.

One cone a file. Neither version stores redshifts, frequencies or units: redshifts follow from the stored comoving
distances and cosmology; temperatures are in mK. The packages read only their own version's files.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from infield.core.errors import InfieldError
from infield.datasets.cm21.cosmology import NEUTRINOS_V3, NEUTRINOS_V4, cosmology, redshifts_of
from infield.datasets.cm21.lightcone_file import TEMPERATURE
from infield.datasets.cm21.readers.common import RawLightcones, UserMetadata
from infield.datasets.cm21.readers.sanity import check_cell, refuse_unfilled, slices
from infield.datasets.formats.foreign_arrays import plain_attributes, readable
from infield.datasets.formats.packing import unpacked

FIELDS = "lightcones"
BEGINNING_RTOL = 0.01
"""Of 1 + z, between the redshift that a file of version 3 states and that of its first distance."""

_V4, _V3 = "InputParameters", "user_params"


def is_native(file: h5py.File) -> bool:
    """Whether 21cmFAST made a file, of whatever version."""
    return FIELDS in file or _V4 in file or (_V3 in file and "cosmo_params" in file)


def native_cone(path: Path, file: h5py.File, stated: UserMetadata) -> RawLightcones:
    """The cone of a file that is open.

    Raises:
        InfieldError: The file has other keys than those of versions 3.4 and 4.
    """
    version = _version(file)
    if _V4 in file:
        size, cosmo, astro = (f"{_V4}/{name}" for name in ("simulation_options", "cosmo_params", "astro_params"))
        distances, neutrinos, seed = "lightcone_distances", NEUTRINOS_V4, file[_V4].attrs.get("random_seed")
        others = [f"{_V4}/matter_options", f"{_V4}/astro_options"]
    else:
        size, cosmo, astro, others = _V3, "cosmo_params", "astro_params", ["flag_options"]
        distances, neutrinos, seed = "distances", NEUTRINOS_V3, file.attrs.get("random_seed")
    for key in (FIELDS, size, cosmo, astro, distances):
        if key not in file:
            raise InfieldError(
                where=f"{path}: '{key}'",
                found=f"no such key in a file of 21cmFAST {version}",
                expected="the keys of versions 3.4 or 4",
                remedy="save it with one of those",
            )
    name = _field(path, file, stated)
    cube: h5py.Dataset = file[f"{FIELDS}/{name}"]
    distance = np.asarray(file[distances], dtype=float)
    points = _number(path, file[size].attrs, "HII_DIM")
    length = _number(path, file[size].attrs, "BOX_LEN")
    expected = (int(points), int(points), len(distance))
    if cube.shape != expected:
        raise InfieldError(
            where=f"{path}: '{FIELDS}/{name}'", found=f"shape {cube.shape}", expected=f"{expected} from its own keys"
        )
    _refuse_unfinished(path, file)
    h, omega_m, omega_b = (_number(path, file[cosmo].attrs, key) for key in ("hlittle", "OMm", "OMb"))
    if not 0.2 < h < 2:
        raise InfieldError(
            where=f"{path}: 'hlittle'",
            found=f"{h:g}",
            expected="the Hubble constant over 100 km/s/Mpc, about 0.68",
            remedy="divide it by 100" if 0.2 < h / 100 < 2 else "save the cone again",
        )
    universe = cosmology(100 * h, omega_m, omega_b, neutrinos)
    try:
        redshift = redshifts_of(distance, universe)
    except ValueError as error:
        raise InfieldError(where=f"{path}: '{distances}'", found=str(error).removeprefix("found ")) from None
    if len(distance) > 1:
        check_cell(f"{path}: '{distances}'", length / points, distance, h, stated=False)
    _refuse_beyond_nodes(path, file, redshift)
    _refuse_another_beginning(path, file, redshift)
    parameters = {key: np.array([value]) for key, value in _numbers(file[astro].attrs).items()}
    constants = {key: {**_plain(file[key].attrs)} for key in (size, cosmo, astro, *others) if key in file}
    return RawLightcones(
        path=path,
        format=f"21cmFAST {version}",
        samples=1,
        points=(int(points), int(points)),
        cell=length / points,
        distance=distance,
        redshift=redshift,
        parameters=parameters,
        seeds=None if seed is None else np.array([int(seed)]),
        read=_reader(path, name),
        provenance={"simulator": f"21cmFAST {version}", "field": name, **constants},
        history=_history(file, name),
        unused=("box", "redshifts", "hubble", "omega_m", "units"),
    )


def _version(file: h5py.File) -> str:
    version = file.attrs.get("version", file.attrs.get("__version__"))
    return (
        version.decode()
        if isinstance(version, bytes)
        else str(version)
        if version is not None
        else "of unknown version"
    )


def _field(path: Path, file: h5py.File, stated: UserMetadata) -> str:
    name = stated.variable or TEMPERATURE
    if name not in file[FIELDS]:
        fields = ", ".join(file[FIELDS]) or "none"
        raise InfieldError(
            where=f"{path}: '{FIELDS}/{name}'",
            found="no such field",
            expected=f"one of {fields}",
            remedy="({variable})",
            parameters=["variable"],
        )
    if not name.startswith(TEMPERATURE):
        raise InfieldError(
            where=f"{path}: '{FIELDS}/{name}'",
            found="a field that is no brightness temperature",
            expected="one in mK",
            remedy="({variable})",
            parameters=["variable"],
        )
    return name


def _refuse_unfinished(path: Path, file: h5py.File) -> None:
    """Version 4 writes a cone while it grows, and stores -1 once it is complete."""
    last = int(file.attrs.get("last_completed_lcidx", -1))
    if last > 0:
        raise InfieldError(
            where=f"{path}: 'last_completed_lcidx'",
            found=last,
            expected="-1: the simulation stopped before its end",
            remedy="finish it",
        )


def _refuse_beyond_nodes(path: Path, file: h5py.File, redshift: np.ndarray) -> None:
    """A cone lies between the redshifts at which boxes were simulated, of which one step more is allowed."""
    key = next((key for key in (f"{_V4}/node_redshifts", "node_redshifts") if key in file), None)
    nodes = np.asarray(file[key], dtype=float).ravel() if key else np.array([])
    if len(nodes) < 2:
        return
    step = float(np.abs(np.diff(nodes)).max())
    outside = np.flatnonzero((redshift < nodes.min() - step) | (redshift > nodes.max() + step))
    if outside.size:
        raise InfieldError(
            where=f"{path}: '{key}'",
            found=f"redshifts {redshift.min():.4g} to {redshift.max():.4g} of the cone and nodes from "
            f"{nodes.min():.4g} to {nodes.max():.4g}: {slices(outside)} lie outside",
            expected="a cone between its nodes",
            remedy="distances and nodes are of different runs: simulate it again",
        )


def _refuse_another_beginning(path: Path, file: h5py.File, redshift: np.ndarray) -> None:
    """Version 3 stores the redshift at which a cone begins."""
    stated = _numbers({"redshift": file.attrs.get("redshift")}).get("redshift")
    if stated is not None and abs(redshift.min() - stated) > BEGINNING_RTOL * (1 + stated):
        raise InfieldError(
            where=f"{path}: 'redshift'",
            found=f"{stated:.4g} and distances from redshift {redshift.min():.4g} on",
            expected="a cone that begins there",
            remedy="they are of different runs, or the distances are not in Mpc: save the cone again",
        )


def _history(file: h5py.File, name: str) -> tuple[str, ...]:
    shifted = f"{TEMPERATURE}_with_rsds"
    if name == TEMPERATURE and shifted in file[FIELDS]:
        return (f"field {TEMPERATURE}, without redshift-space distortions; the file also has {shifted}",)
    return ()


def _number(path: Path, attributes: Mapping[str, Any], key: str) -> float:
    number = _numbers({key: attributes.get(key)}).get(key, 0.0)
    if not number > 0:
        raise InfieldError(where=f"{path}: '{key}'", found=attributes.get(key), expected="a finite number above zero")
    return number


def _numbers(attributes: Mapping[str, Any]) -> dict[str, float]:
    """The attributes that are numbers, flags left out."""
    arrays = {str(key): np.asarray(value) for key, value in attributes.items()}  # some files hold arrays of one number
    numbers = {key: array.item() for key, array in arrays.items() if array.size == 1 and array.dtype.kind in "iuf"}
    return {key: float(value) for key, value in numbers.items() if np.isfinite(value)}


def _plain(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes in JSON types."""
    found = {}
    for key, value in attributes.items():
        value = value.item() if isinstance(value, np.generic) else value
        found[str(key)] = value if isinstance(value, bool | int | float | str) else str(value)
    return found


def _reader(path: Path, name: str) -> Callable[[int, slice], np.ndarray]:
    def read(sample: int, cells: slice) -> np.ndarray:
        with readable(path), h5py.File(path, "r") as file:
            cube = file[f"{FIELDS}/{name}"]
            values = unpacked(np.asarray(cube[:, :, cells]), plain_attributes(cube.attrs))
            empty = np.flatnonzero(~values.any((0, 1)))
            density = file.get(f"{FIELDS}/density")
            if empty.size and density is not None and density.shape == cube.shape:
                first = cells.start or 0
                unfilled = [first + i for i in empty if not np.any(density[:, :, first + i])]
                if unfilled:  # matter is nowhere exactly at its mean, whatever is ionised
                    refuse_unfilled(path, np.array(unfilled), cube.shape[2])
            return values

    return read
