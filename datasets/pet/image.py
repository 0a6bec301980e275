"""A PET image on axes (z, y, x) in mm that point superior, anterior and right, and its file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from infield.core.errors import InfieldError
from infield.datasets.formats.zarr_group import write_group

FORMAT, VERSION = "pet-image", 1
MNI, MNI_CODE = "MNI152", 4
"""Name of the space in file names of BIDS, and its code in the header of NIfTI."""
OBLIQUE = 0.05
"""Sine of the angle between a voxel axis and its world axis above which coordinates along world axes are no use."""
SAME = 1e-3
"""Difference of affines, mm, up to which two images lie on one grid."""


@dataclass(frozen=True, eq=False)
class PETImage:
    """An image whose left is left.

    Arguments:
        values: Shape `(z, y, x)`, float64; x to the right, y to the front, z upwards.
        affine: From indices (x, y, z) of `values` to world coordinates in mm (RAS+), shape `(4, 4)`.
        units: "Bq/mL", "g/mL" (SUV), "1" (SUVR) or "counts".
        facts: What else is known: tracer, frames, source.
    """

    values: np.ndarray
    affine: np.ndarray
    units: str
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def voxel(self) -> tuple[float, float, float]:
        """Sizes along (z, y, x), mm."""
        x, y, z = np.linalg.norm(self.affine[:3, :3], axis=0).tolist()
        return z, y, x

    def with_values(self, values: np.ndarray, units: str, **facts: Any) -> PETImage:
        """The same grid with other values."""
        return replace(self, values=values, units=units, facts={**self.facts, **facts})

    def check_same_grid(self, affine: np.ndarray, shape: tuple[int, ...], what: str) -> None:
        """Refuse another image that does not lie on this one's grid.

        Raises:
            InfieldError: Shapes or affines differ.
        """
        if tuple(shape) == self.values.shape and np.abs(affine - self.affine).max() <= SAME:
            return
        away = np.abs(affine - self.affine).max()
        raise InfieldError(
            where=what,
            found=f"shape {tuple(shape)} and an affine that differs by up to {away:.3g}",
            expected=f"the grid of the image, {self.values.shape}",
            remedy="resample it with nilearn.image.resample_to_img, or register it with ANTs first",
        )

    def dataset(self) -> xr.Dataset:
        """Axes in mm of the world; the affine as an attribute."""
        coordinates = {}
        for k, name in enumerate("xyz"):
            positions = self.affine[k, 3] + self.affine[k, k] * np.arange(self.values.shape[2 - k])
            coordinates[name] = (name, positions, {"units": "mm"})
        attributes = {
            "infield_format": FORMAT,
            "infield_version": VERSION,
            "affine": json.dumps(self.affine.tolist()),
            "orientation": "x to the right, y anterior, z superior (RAS+)",
            "facts": json.dumps(dict(self.facts)),
            "warning": "not for diagnosis",
        }
        return xr.Dataset({"pet": (("z", "y", "x"), self.values, {"units": self.units})}, coordinates, attributes)

    def write(self, path: Path, *, overwrite: bool = False) -> None:
        """Write a zarr group, or NIfTI where the name ends in .nii or .nii.gz.

        Raises:
            InfieldError: The path exists.
        """
        if path.name.endswith((".nii", ".nii.gz")):
            import nibabel

            if path.exists() and not overwrite:
                raise InfieldError(where=path, found="a file", expected="none", remedy="use {overwrite}",
                                   parameters=["overwrite"])  # fmt: skip
            image = nibabel.Nifti1Image(self.values.transpose(2, 1, 0).astype(np.float32), self.affine)
            if self.facts.get("space") == MNI:
                image.set_sform(self.affine, code=MNI_CODE)
            image.header["descrip"] = f"{self.units}; not for diagnosis".encode()
            nibabel.save(image, path)
            return
        write_group(path, self.dataset(), overwrite=overwrite)


def to_world_axes(values: np.ndarray, affine: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Values `(i, j, k)` in whatever order and direction, to `(z, y, x)` upwards, forwards and to the right.

    The affine decides, and follows: a voxel keeps its world coordinates, so that left stays left. Voxels are not
    interpolated.

    Arguments:
        values: Shape `(i, j, k)`.
        affine: From (i, j, k) to RAS+ mm.

    Returns:
        Values, and the affine from (x, y, z) indices.

    Raises:
        InfieldError: The affine is not invertible, or its axes are oblique to those of the world.
    """
    if not np.isfinite(affine).all() or abs(np.linalg.det(affine[:3, :3])) < 1e-9:
        raise InfieldError(where="affine", found=f"{affine[:3].tolist()}", expected="an invertible one, in mm")
    directions = affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)
    order = np.abs(directions).argmax(0)  # world axis of each voxel axis
    if sorted(order.tolist()) != [0, 1, 2] or (np.sort(np.abs(directions), axis=0)[1] > OBLIQUE).any():
        raise InfieldError(
            where="affine",
            found="voxel axes that are oblique to left, anterior and superior",
            expected=f"a tilt below {OBLIQUE:g} rad",
            remedy="resample it, e.g. with nilearn.image.resample_img to a diagonal affine",
        )
    place = np.argsort(order)  # voxel axis along x, y, z
    moved, columns = values.transpose(place), affine[:3, place]
    origin = affine[:3, 3].copy()
    for k in range(3):
        if columns[k, k] < 0:
            origin += columns[:, k] * (moved.shape[k] - 1)
            columns[:, k] *= -1
            moved = np.flip(moved, k)
    result = np.eye(4)
    result[:3, :3], result[:3, 3] = columns, origin
    return np.ascontiguousarray(moved.transpose(2, 1, 0)), result


def from_world_axes(values: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """Values `(z, y, x)` to the order of voxels `(i, j, k)` of an affine: the inverse of `to_world_axes`.

    Arguments:
        values: Shape `(z, y, x)`.
        affine: From (i, j, k) to RAS+ mm; its axes are not oblique.
    """
    order = np.abs(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)).argmax(0)
    moved = values.transpose(2, 1, 0)
    for k in range(3):
        if affine[k, np.flatnonzero(order == k)[0]] < 0:
            moved = np.flip(moved, k)
    return np.ascontiguousarray(moved.transpose(order))


def read_image(path: Path) -> PETImage:
    """Read a zarr group that `PETImage.write` wrote.

    Raises:
        InfieldError: It is another format or a newer version.
    """
    try:
        data = xr.open_zarr(path, consolidated=False)
    except (OSError, ValueError, KeyError) as error:
        raise InfieldError(where=path, found="no zarr group", expected=FORMAT) from error
    found = (data.attrs.get("infield_format"), data.attrs.get("infield_version"))
    if found[0] != FORMAT or found[1] != VERSION:
        raise InfieldError(where=path, found=f"format {found[0]}, version {found[1]}", expected=f"{FORMAT}, {VERSION}")
    affine = np.array(json.loads(data.attrs["affine"]))
    return PETImage(data["pet"].values, affine, data["pet"].attrs["units"], json.loads(data.attrs["facts"]))
