"""Posteriors of fields larger than memory: written tile by tile, with the state of their annealing beside them.

The finished file is a posterior like any other (`posterior_file`), in chunks of tiles. Until then the group holds
`tile_state (2, sample, *torus)`, the state of each level in turn, and `tile_level (block, *tiles)`, how many levels of
a tile are done, written after everything else of that level. A tile continues to level k + 1 after all its neighbours
have done level k; so a level overwrites the state before the last only when no tile needs it any more, and a tile whose
worker died is done again with the same numbers.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import zarr
from torch import Tensor
from zarr.codecs import Crc32cCodec

from infield.datasets.formats.posterior import PosteriorWriter
from infield.datasets.formats.posterior_layout import COSTS, lay_out_posterior

STATE, LEVEL = "tile_state", "tile_level"


class TileStore:
    """Reads and writes tiles of a posterior that is being drawn; many processes may have one of the same group.

    Arguments:
        partial: The group.
        samples: Number of samples.
        block: Samples that are drawn together.
    """

    def __init__(self, partial: Path, samples: int, block: int) -> None:
        self.samples, self.block = samples, block
        self._group = zarr.open_group(partial, mode="r+", use_consolidated=False)
        self._state, self._level, self._samples = (self._array(name) for name in (STATE, LEVEL, "samples"))

    def levels_done(self, block: int, tile: tuple[int, ...]) -> int:
        """How many levels of a tile are done."""
        return int(np.asarray(self._level[(block, *tile)]))

    def all_levels_done(self) -> np.ndarray:
        """The same of all tiles, shape `(block, *tiles)`."""
        return np.asarray(self._level[...])

    def read(self, level: int, block: int, region: Sequence[range]) -> Tensor:
        """State of a block after so many levels, at points that may go round, shape `(block, 1, *region)`."""
        rows = slice(block * self.block, (block + 1) * self.block)
        values = np.empty((self.block, *map(len, region)))
        for parts in itertools.product(
            *(_pieces(seen, n) for seen, n in zip(region, self._state.shape[2:], strict=True))
        ):
            here, there = zip(*parts, strict=True)
            values[(slice(None), *there)] = self._state[(level % 2, rows, *here)]
        return torch.from_numpy(values)[:, None]

    def write(self, level: int, block: int, tile: tuple[int, ...], core: Sequence[range], state: Tensor) -> None:
        """State of a block after so many levels, shape `(block, 1, *core)`, then how many they are."""
        rows = slice(block * self.block, (block + 1) * self.block)
        place: tuple[Any, ...] = (level % 2, rows, *_slices(core))
        self._state[place] = state[:, 0].numpy()
        self._level[(block, *tile)] = level

    def write_samples(
        self, level: int, block: int, tile: tuple[int, ...], core: Sequence[range], field: Tensor
    ) -> None:
        """The samples of a block in units, after the last level, shape `(block, 1, *core)`."""
        own = range(block * self.block, min((block + 1) * self.block, self.samples))
        inside = [range(c.start, min(c.stop, n)) for c, n in zip(core, self._samples.shape[1:], strict=True)]
        if all(map(len, inside)):  # an axis that was closed has points behind its end
            kept: tuple[Any, ...] = (slice(len(own)), 0, *(slice(len(c)) for c in inside))
            values = field[kept].numpy()
            self._samples[(slice(own.start, own.stop), *_slices(inside))] = values.astype(self._samples.dtype)
        self._level[(block, *tile)] = level

    def _array(self, name: str) -> zarr.Array:
        array = self._group[name]
        assert isinstance(array, zarr.Array)
        return array


class TiledPosteriorWriter(PosteriorWriter):
    """A posterior of one channel that is drawn tile by tile.

    Arguments:
        tile: Points of a tile along each axis.
        torus: Points of the closed domain.
        settings: As of `PosteriorWriter`.
    """

    def __init__(self, path: str | Path, *, tile: tuple[int, ...], torus: tuple[int, ...], **settings: Any) -> None:
        self.tile, self.torus = tile, torus
        super().__init__(path, **settings)
        self.store = TileStore(self.partial, self.samples, self.block)

    def _lay_out(self, draft: Path, title: str) -> None:
        lay_out_posterior(draft, self._field, self._run, title, self.tile, self._carried)
        group = zarr.open_group(draft, mode="r+", use_consolidated=False)
        blocks = -(-self._run["samples"] // self._run["block"])
        counts = tuple(-(-n // size) for n, size in zip(self.torus, self.tile, strict=True))
        tile = tuple(map(min, self.tile, self.torus))
        state, level = (2, blocks * self._run["block"], *self.torus), (blocks, *counts)
        arrays: dict[str, dict[str, Any]] = {
            STATE: {"shape": state, "chunks": (1, self._run["block"], *tile), "dtype": "float64", "fill_value": np.nan},
            LEVEL: {"shape": level, "chunks": (1,) * len(level), "dtype": "int16", "fill_value": 0},
        }
        for name, about in arrays.items():
            dims = tuple(f"{name}_{i}" for i in range(len(about["shape"])))
            group.create_array(name, dimension_names=dims, compressors=[Crc32cCodec()], **about)

    def regions(self) -> list[tuple[slice, ...]]:
        """The parts of the field that are chunks of the file."""
        axes = zip(self._field.grid.shape, self.tile, strict=True)
        return list(itertools.product(*([slice(i, min(i + size, n)) for i in range(0, n, size)] for n, size in axes)))

    def read_region(self, b: int, region: Sequence[slice]) -> Tensor:
        """A part of a written block as it is stored, float64, `(samples of the block, 1, *region)`."""
        rows = self.sample_range(b)
        values = np.asarray(self._array("samples")[(slice(rows.start, rows.stop), *region)], dtype=np.float64)
        return torch.from_numpy(values)[:, None]

    def finish_block(self, b: int, cost: Mapping[str, float]) -> None:
        """Flag a block all of whose tiles are written, with what it cost."""
        self._write_block(b, {}, {name: cost[name] for name in COSTS})

    def _final_moments(
        self, moments: Mapping[str, tuple[np.ndarray, Mapping[str, Any]]] | None
    ) -> Mapping[str, np.ndarray]:
        """None are left to write: those of the samples are written here, one tile of all samples in memory.

        Raises:
            ValueError: Moments are given.
        """
        if moments is not None:
            raise ValueError("a posterior in tiles has the moments of its samples")
        with self._disk_full():
            for region in self.regions():
                values = np.asarray(self._array("samples")[(slice(None), *region)], dtype=np.float64)
                self._array("mean")[region] = values.mean(0)
                spread = values.std(0, ddof=1) if self.samples > 1 else np.full(values.shape[1:], np.nan)
                with zarr.config.set({"array.write_empty_chunks": True}):
                    self._array("std")[region] = spread
        for name in (STATE, LEVEL):
            if name in self._group:
                del self._group[name]
        return {}


def _pieces(seen: range, n: int) -> list[tuple[slice, slice]]:
    """Where the points of a range that goes round an axis lie on it, piece by piece, and where in the range."""
    pieces, at = [], seen.start
    while at < seen.stop:
        start = at % n
        length = min(n - start, seen.stop - at)
        pieces.append((slice(start, start + length), slice(at - seen.start, at - seen.start + length)))
        at += length
    return pieces


def _slices(core: Sequence[range]) -> tuple[slice, ...]:
    return tuple(slice(points.start, points.stop) for points in core)
