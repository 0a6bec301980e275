"""Geometry of a parallel-beam projector: angles and bins, in mm, of an image in mm."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from infield.core.checks import is_number
from infield.core.errors import InfieldError
from infield.core.grid import Axis, Grid
from infield.physics.operators.base import index_grid
from infield.physics.operators.description import OperatorDescription
from infield.physics.units import conversion

PARAMETERS = ("angles", "bins", "bin_width", "centre", "psf_fwhm")
ARRAYS = ("angles", "positions")


@dataclass(frozen=True, eq=False)
class ParallelBeam:
    """Rays x cos(theta) + y sin(theta) = s about a centre of rotation.

    Arguments:
        angles: theta, radians, shape `(n_angles,)`.
        positions: s of the bins, mm, shape `(n_bins,)`; they need not be equally spaced.
        centre: Coordinates (y, x) of the centre of rotation, mm; None for the middle of the image.
        psf_fwhm: Full width at half maximum of a Gaussian blur of the image before it is projected, mm; 0 for none.
    """

    angles: np.ndarray
    positions: np.ndarray
    centre: tuple[float, float] | None = None
    psf_fwhm: float = 0.0

    @classmethod
    def regular(cls, angles: int, bins: int, bin_width: float, **more: Any) -> ParallelBeam:
        """Equally spaced angles over half a turn, from 0, and equally spaced bins about the centre."""
        return cls(math.pi / angles * np.arange(angles), bin_width * (np.arange(bins) - (bins - 1) / 2), **more)

    @classmethod
    def from_description(cls, description: OperatorDescription) -> ParallelBeam:
        """Read `angles` (a number of them over half a turn, or an array of radians), `bins` with `bin_width` in mm or
        an array `positions` in mm, `centre` (y, x) in mm and `psf_fwhm` in mm.

        Raises:
            InfieldError: One is missing, given twice or no such number.
        """
        given = description.parameters
        for name, other in (("angles", "angles"), ("bins", "positions")):
            if (name in given) == (other in description.arrays):
                what = "both" if name in given else "neither"
                raise description.error(
                    found=f"{what} of parameter '{name}' and array '{other}'", expected="one of the two"
                )
        if "angles" in given:
            n = _count(description, "angles")
            angles = math.pi / n * np.arange(n)
        else:
            angles = _vector(description, "angles")
        if "bins" in given:
            bins, width = _count(description, "bins"), description.positive("bin_width", given.get("bin_width"))
            positions = width * (np.arange(bins) - (bins - 1) / 2)
        else:
            positions = _vector(description, "positions")
            if "bin_width" in given:
                raise description.error(found="bin_width beside positions", expected="one of the two")
            if (np.diff(positions) <= 0).any():
                raise description.error(found="positions that do not increase", expected="them in order")
        psf = given.get("psf_fwhm", 0.0)
        psf = 0.0 if is_number(psf) and psf == 0 else description.positive("psf_fwhm", psf)
        return cls(angles, positions, _centre(description), psf)

    @property
    def shape(self) -> tuple[int, int]:
        """Shape of a sinogram, `(angles, bins)`."""
        return len(self.angles), len(self.positions)

    def data_grid(self, grid: Grid) -> Grid:
        """Grid of the sinograms of an image, or of those of a volume's slices."""
        shape = (*grid.shape[:-2], *self.shape)
        if (np.diff(self.angles) <= 0).any():
            return index_grid(shape)
        angle = Axis("angle", tuple(self.angles.tolist()), "rad")
        return Grid((*grid.axes[:-2], angle, Axis("radial", tuple(self.positions.tolist()), "mm")))


def coordinates_mm(grid: Grid, axis: int) -> np.ndarray:
    """Coordinates of an axis in mm.

    Raises:
        InfieldError: Its units are no length, or its points are not equally spaced.
    """
    found = grid.axes[axis]
    try:
        factor = conversion(found.units, "mm")
    except InfieldError as error:
        raise InfieldError(
            where=f"axis '{found.name}'",
            found=f"units '{found.units}'",
            expected="a length ('mm'), in which rays are followed",
        ) from error
    if not found.uniform:
        raise InfieldError(where=f"axis '{found.name}'", found="unequal spacing", expected="equally spaced points")
    return factor(np.asarray(found.coordinates, dtype=float))


def image_grid(description: OperatorDescription) -> Grid:
    """The grid of the description's field, checked.

    Raises:
        InfieldError: It is no image (y, x) or volume (z, y, x) in units of length.
    """
    grid = description.regular_grid()
    if grid.ndim not in (2, 3):
        raise description.error(found=f"a field on {grid.ndim} axes", expected="an image (y, x) or a volume (z, y, x)")
    try:
        for axis in (-2, -1):
            coordinates_mm(grid, axis)
    except InfieldError as error:
        raise error.within(f"operator '{description.name}'") from error
    return grid


def _count(description: OperatorDescription, name: str) -> int:
    value = description.parameters[name]
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise description.error(found=f"{name} {value!r}", expected="a whole number of at least 1")
    return value


def _vector(description: OperatorDescription, role: str) -> np.ndarray:
    values = description.array(role).astype(float)
    if values.ndim != 1 or values.size == 0:
        raise description.error(found=f"{role} of shape {values.shape}", expected="a vector")
    return values


def _centre(description: OperatorDescription) -> tuple[float, float] | None:
    value = description.parameters.get("centre")
    if value is None:
        return None
    if not (isinstance(value, list | tuple) and len(value) == 2 and all(is_number(v) for v in value)):
        raise description.error(found=f"centre {value!r}", expected="two finite numbers (y, x) in mm")
    return float(value[0]), float(value[1])
