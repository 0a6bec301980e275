"""Some cones of a file of lightcones, by number; and their summaries, a few cones at a time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from infield.core.errors import InfieldError
from infield.datasets.cm21.lightcone_file import TEMPERATURE, Lightcones, open_lightcones
from infield.datasets.formats.foreign_arrays import readable
from infield.posterior.cm21.summary import LightconeSummary

MAX_VOXELS_PER_READ = 2**22
"""Voxels that are read together."""

GRID_RTOL = 1e-3
"""Relative differences up to which two grids are one."""


@dataclass(frozen=True)
class Members:
    """Some cones of a file.

    Arguments:
        path: The file.
        group: The same, open.
        cones: Its metadata.
        numbers: Which members.
    """

    path: Path
    group: xr.Dataset
    cones: Lightcones
    numbers: range

    def block(self, start: int, stop: int) -> Tensor:
        """Members by their place in `numbers`, `(some, x, y, los)`, float64."""
        wanted = self.numbers[start:stop]
        with readable(self.path):
            values = self.group[TEMPERATURE][wanted.start : wanted.stop].values
        return torch.from_numpy(values.astype(np.float64))

    @property
    def parameters(self) -> dict[str, tuple[float, float]]:
        """Lowest and highest value of each parameter among the members."""
        part = slice(self.numbers.start, self.numbers.stop)
        return {name: (float(v[part].min()), float(v[part].max())) for name, v in self.cones.parameters.items()}

    def summary(self, cells: int, edges: Tensor, advance: Callable[[int], object]) -> LightconeSummary:
        """Summaries of all members.

        Arguments:
            cells: Of a chunk of the line of sight.
            edges: Of the bins of temperature, mK.
            advance: Called with the number of lightcones done since the last call.

        Raises:
            InfieldError: A cone cannot be read, or has NaN or infinity.
        """
        grid = self.cones.grid
        dx, dy, dz = grid.spacing
        step = max(1, MAX_VOXELS_PER_READ // math.prod(grid.shape))
        parts = []
        for start in range(0, len(self.numbers), step):
            cones = self.block(start, start + step)
            whole = torch.isfinite(cones).flatten(1).all(1)
            if not whole.all():
                number = self.numbers[start + int(whole.int().argmin())]
                raise InfieldError(
                    where=self.path, found=f"NaN or infinity in cone {number}", expected="finite temperatures"
                )
            parts.append(LightconeSummary.of(cones, (dx, dy, dz), cells, edges))
            advance(len(cones))
        return LightconeSummary.joined(parts)


def members_of(path: Path, text: str | None, option: str) -> Members:
    """Cones of a file: all of them, or those that an option names as `A-B` or `A`.

    Raises:
        InfieldError: The file is no file of lightcones, or has no such cones.
    """
    group, cones = open_lightcones(path)
    numbers = range(cones.samples)
    if text is not None:
        first, dash, last = text.partition("-")
        last = last if dash else first
        if not (first.isdecimal() and last.isdecimal() and int(first) <= int(last) < cones.samples):
            raise InfieldError(where=option, found=text, expected=f"A-B or A, of 0-{numbers[-1]}")
        numbers = range(int(first), int(last) + 1)
    return Members(path, group, cones, numbers)


def check_same_grid(first: Members, second: Members) -> None:
    """InfieldError where two files are of different grids or redshifts."""
    one, two = first.cones, second.cones
    same = one.grid.shape == two.grid.shape and np.allclose(one.grid.spacing, two.grid.spacing, rtol=GRID_RTOL)
    if not same or not np.allclose(one.redshift, two.redshift, rtol=GRID_RTOL):
        stored = [
            f"{' x '.join(map(str, c.grid.shape))} cells of {c.grid.spacing[0]:g} Mpc, z {c.redshift[0]:.4g} to "
            f"{c.redshift[-1]:.4g}"
            for c in (one, two)
        ]
        raise InfieldError(
            where=second.path, found=stored[1], expected=f"{stored[0]} as in {first.path}: one grid for both"
        )
