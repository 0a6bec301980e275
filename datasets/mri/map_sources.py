"""Which coil maps a conversion takes: those of the file, of another file, uniform ones, or ESPIRiT's."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from infield.core.errors import ArgumentError, InfieldError
from infield.datasets.mri.coil_maps import KERNEL_WIDTH, coil_maps
from infield.datasets.mri.kspace import KSpace, root_sum_of_squares
from infield.datasets.mri.readers.arrays import read_maps
from infield.datasets.mri.readers.open import with_suffix

ESPIRIT, FROM_FILE, UNIFORM = "espirit", "file", "uniform"
_UNIFORM_COILS = 1


def with_maps(kspace: KSpace, coils_from: str | Path | None) -> tuple[KSpace, str]:
    """The slice with the maps that are to be used, or without any where they are to be estimated; and how."""
    if coils_from is None:
        own = kspace.coil_maps is not None
        coils_from = FROM_FILE if own else UNIFORM if len(kspace.samples) == _UNIFORM_COILS else ESPIRIT
    if coils_from == FROM_FILE:
        if kspace.coil_maps is None:
            raise InfieldError(
                found="no coil maps in the file",
                expected="some",
                remedy="estimate them ({coils_from}) or name their file",
                parameters={"coils_from": ESPIRIT},
            )
        return kspace, FROM_FILE
    if coils_from == UNIFORM and len(kspace.samples) != _UNIFORM_COILS:
        raise InfieldError(found=f"{len(kspace.samples)} coils", expected="one for a uniform coil map")
    if coils_from in (ESPIRIT, UNIFORM):
        return dataclasses.replace(kspace, coil_maps=None), str(coils_from)
    path = with_suffix(Path(coils_from))
    if not path.suffix:
        raise ArgumentError(
            where="{coils_from}",
            found=f"'{coils_from}'",
            expected=f"{ESPIRIT}, {FROM_FILE}, {UNIFORM} or a file of coil maps",
            parameters=["coils_from"],
        )
    maps = read_maps(path)
    if maps.shape != kspace.samples.shape:
        raise InfieldError(
            found=f"coil maps of shape {maps.shape} in {path}",
            expected=f"{kspace.samples.shape} as the k-space has",
            remedy="coils or sizes do not match",
        )
    return dataclasses.replace(kspace, coil_maps=maps.astype(np.complex128)), str(path.name)


def chosen_maps(
    kspace: KSpace, chosen: str, calibration: np.ndarray, width: int, crop: float
) -> tuple[np.ndarray, str]:
    """Normalised coil maps `(coil, y, x)`, and a description of their origin."""
    if chosen == UNIFORM:
        return np.ones_like(kspace.samples), "one uniform coil"
    if kspace.coil_maps is not None:
        return normalised(kspace.coil_maps), f"coil maps from {'the file' if chosen == FROM_FILE else chosen}"
    if width < 2 * KERNEL_WIDTH:
        raise InfieldError(
            found=f"a fully sampled centre of {width} x {width} and no coil maps",
            expected=f"at least {2 * KERNEL_WIDTH} x {2 * KERNEL_WIDTH} samples, from which the coil maps come, or the "
            "maps themselves",
            remedy="({coils_from})",
            parameters=["coils_from"],
        )
    return coil_maps(calibration, width, crop), (
        f"coil maps by ESPIRiT from the central {width} x {width} samples, crop {crop:g}"
    )


def normalised(maps: np.ndarray) -> np.ndarray:
    """Maps with sum_c |s_c|^2 = 1, and 0 where they all but vanish, below 10^-6 of their largest."""
    norm = root_sum_of_squares(maps)
    inside = norm > 1e-6 * norm.max()
    return np.where(inside, maps / np.where(inside, norm, 1), 0)
