"""A domain as tiles with halos: the core and the region of a tile, and random numbers that belong to places."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Generator, Tensor

from infield.core.errors import InfieldError

RNG_BLOCK = 64
"""Points along each axis of a cell whose random numbers are drawn together."""

SENSOR_CELL = 1024
"""Data whose random numbers are drawn together."""


@dataclass(frozen=True)
class Tiling:
    """Tiles of a domain whose axes close.

    Arguments:
        shape: Points of the domain along each axis.
        tile: Points of a tile; the last one along an axis may be smaller.
        halo: Points around the core of a tile, on each side.
    """

    shape: tuple[int, ...]
    tile: tuple[int, ...]
    halo: tuple[int, ...]

    def __post_init__(self) -> None:
        if not len(self.shape) == len(self.tile) == len(self.halo):
            raise InfieldError(
                where="tiles",
                found=f"{len(self.tile)} sizes and {len(self.halo)} halos",
                expected=f"one of each for each of {len(self.shape)} axes",
            )
        if min(self.tile) < 1 or min(self.halo) < 0:
            raise InfieldError(
                where="tiles", found=f"sizes {self.tile} and halos {self.halo}", expected="at least 1 and 0"
            )

    @property
    def counts(self) -> tuple[int, ...]:
        """Tiles along each axis."""
        return tuple(-(-n // size) for n, size in zip(self.shape, self.tile, strict=True))

    @cached_property
    def tiles(self) -> list[tuple[int, ...]]:
        """All tiles, by their numbers along the axes."""
        return list(itertools.product(*map(range, self.counts)))

    def core(self, tile: tuple[int, ...]) -> tuple[range, ...]:
        """The points that a tile owns, along each axis."""
        axes = zip(tile, self.tile, self.shape, strict=True)
        return tuple(range(i * size, min((i + 1) * size, n)) for i, size, n in axes)

    def region(self, tile: tuple[int, ...]) -> tuple[range, ...]:
        """The points of its region; they may begin before 0 and end behind the domain, which is periodic.

        Along an axis that core and halos fill, the region is the whole axis.
        """
        axes = zip(self.core(tile), self.halo, self.shape, strict=True)
        return tuple(
            range(n) if len(core) + 2 * halo >= n else range(core.start - halo, core.stop + halo)
            for core, halo, n in axes
        )

    def whole(self, tile: tuple[int, ...]) -> bool:
        """Whether the region of a tile is the whole domain."""
        return tuple(map(len, self.region(tile))) == self.shape

    def own(self, tile: tuple[int, ...]) -> tuple[slice, ...]:
        """The core of a tile within its region."""
        pairs = zip(self.core(tile), self.region(tile), strict=True)
        return tuple(slice(core.start - seen.start, core.stop - seen.start) for core, seen in pairs)

    def neighbours(self, tile: tuple[int, ...]) -> list[tuple[int, ...]]:
        """The tiles whose regions overlap the core of a tile, or whose cores overlap its region; itself among them."""
        axes = []
        for axis, i in enumerate(tile):
            others = range(self.counts[axis])
            axes.append([j for j in others if self._sees(axis, i, j) or self._sees(axis, j, i)])
        return list(itertools.product(*axes))

    def _sees(self, axis: int, i: int, j: int) -> bool:
        """Whether the region of tile i along an axis overlaps the core of tile j."""
        seen = self.region(tuple(i if a == axis else 0 for a in range(len(self.shape))))[axis]
        core = self.core(tuple(j if a == axis else 0 for a in range(len(self.shape))))[axis]
        n = self.shape[axis]
        return (core.start - seen.start) % n < len(seen) or (seen.start - core.start) % n < len(core)


def normal_at(key: Sequence[int], region: Sequence[range], shape: Sequence[int]) -> Tensor:
    """Standard normal numbers at the points of a region, each the same in every region that holds its point.

    Arguments:
        key: What else they depend on, e.g. the seed of a run and the number of a sample.
        region: Points along each axis, of a periodic domain.
        shape: Points of the domain.

    Returns:
        Float64, shape of the region.
    """
    places = [torch.tensor([i % n for i in seen]) for seen, n in zip(region, shape, strict=True)]
    cells = [place // RNG_BLOCK for place in places]
    numbers = torch.empty([len(place) for place in places], dtype=torch.float64)
    for cell in itertools.product(*(c.unique().tolist() for c in cells)):
        block = torch.randn([RNG_BLOCK] * len(shape), generator=_generator(key, cell), dtype=torch.float64)
        here = [(c == i).nonzero()[:, 0] for c, i in zip(cells, cell, strict=True)]
        inside = [place[at] % RNG_BLOCK for place, at in zip(places, here, strict=True)]
        numbers[torch.meshgrid(*here, indexing="ij")] = block[torch.meshgrid(*inside, indexing="ij")]
    return numbers


def normal_of(key: Sequence[int], index: Tensor) -> Tensor:
    """Standard normal numbers that belong to data by their numbers `(data,)`, float64, likewise."""
    numbers = torch.empty(len(index), dtype=torch.float64)
    cells = index // SENSOR_CELL
    for cell in cells.unique().tolist():
        block = torch.randn(SENSOR_CELL, generator=_generator(key, (cell,)), dtype=torch.float64)
        numbers[cells == cell] = block[index[cells == cell] % SENSOR_CELL]
    return numbers


def _generator(key: Sequence[int], cell: Sequence[int]) -> Generator:
    state = np.random.SeedSequence([*key, *cell]).generate_state(1, np.uint64)[0]
    return Generator().manual_seed(int(state) >> 1)
