"""The posterior format: samples with coordinates, written block by block so that a killed run goes on.

A run works in `<path>.partial` and only a finished one is renamed to `<path>`. A block counts once its flag in `done`
is 1, and that flag is written after everything else of the block, so no interruption of the process can leave a flag
without its data. The format is specified in the README.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
import zarr
from torch import Tensor

from infield import InfieldError
from infield.datasets.field_axes import Field, read_field
from infield.datasets.posterior_layout import COSTS, VERSION, event_shape, lay_out_posterior
from infield.datasets.zarr_group import (
    check_new,
    disk_full_in_words,
    json_attribute,
    open_group,
    put_in_place,
    refusal,
    refuse_missing_chunks,
    remove_for_good,
)
from infield.physics.grid import Grid, PointSet


class PosteriorWriter:
    """Writes a posterior block by block into `<path>.partial`, and goes on where an earlier run of it was stopped.

    Arguments:
        path: The posterior to write.
        grid: Where the field lives.
        channels: Names of its channels.
        units: Units of its values.
        samples: Number of samples.
        block: Samples that are written together; also the chunk of the file. The last block may be smaller.
        run: What makes the samples what they are: `sampler`, `sampler_parameters`, `prior`, `prior_sha256`, `seed`,
            `measurement_sha256`, in JSON types. A run is only continued where all of it is the same.
        dtype: "float32" or "float64", in which samples are stored.
        title: One line for people.
        overwrite: Whether an existing posterior may be replaced, once the new one is finished.

    Raises:
        InfieldError: `path` exists, `<path>.partial` is of another run, or the disk is full.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        grid: Grid | PointSet,
        channels: tuple[str, ...],
        units: str,
        samples: int,
        block: int,
        run: Mapping[str, Any],
        dtype: str = "float32",
        title: str = "",
        overwrite: bool = False,
    ) -> None:
        self.path = Path(path)
        self.partial = self.path.with_name(self.path.name + ".partial")
        self.samples, self.block, self.overwrite = samples, block, overwrite
        self._field = Field(grid, tuple(channels), units)
        self._shape = event_shape(self._field)
        layout = {"samples": samples, "block": block, "dtype": dtype}
        coordinates = hashlib.sha256(json.dumps(grid.to_json()).encode()).hexdigest()
        about_field = {"field": json.loads(self._field.attribute()), "grid_sha256": coordinates}
        self._run = json.loads(json.dumps({**run, **layout, **about_field}))
        if samples < 1 or block < 1:
            raise InfieldError(f"{path}: found {samples} samples in blocks of {block}, expected at least 1 of each")
        check_new(self.path, overwrite)
        with self._disk_full():
            if self.partial.exists():
                self._check_same_run()
            else:
                self._create(title)
            self._group = zarr.open_group(self.partial, mode="r+", use_consolidated=False)

    @property
    def blocks(self) -> int:
        """Number of blocks."""
        return -(-self.samples // self.block)

    def sample_range(self, b: int) -> range:
        """Numbers of the samples of block `b`."""
        return range(b * self.block, min((b + 1) * self.block, self.samples))

    def missing_blocks(self) -> list[int]:
        """Blocks that are not yet on disk, in order."""
        done = self._read("done")
        return [b for b in range(self.blocks) if not done[b * self.block]]

    def write_block(self, b: int, tensor: Tensor, cost: Mapping[str, float]) -> None:
        """Write one block and what it cost, then its flag.

        Arguments:
            b: Number of the block.
            tensor: Its samples, `(samples of the block, channel, *space)`, in the units of the field.
            cost: `velocity_calls`, `operator_calls` and `seconds` that were spent on this block.

        Raises:
            InfieldError: A sample is not finite, or the disk is full.
            ValueError: The tensor has another shape.
        """
        rows = self.sample_range(b)
        expected = (len(rows), len(self._field.channels), *self._field.grid.shape)
        if tuple(tensor.shape) != expected:
            raise ValueError(f"block {b}: found samples of shape {tuple(tensor.shape)}, expected {expected}")
        with np.errstate(over="ignore"):  # what does not fit becomes infinity, and is refused below
            values = tensor.detach().cpu().numpy().reshape(len(rows), *self._shape).astype(self._run["dtype"])
        if not np.isfinite(values).all():
            raise InfieldError(
                f"{self.path}: found NaN or infinity among samples {rows.start} to {rows.stop - 1}, expected finite "
                "values; the sampler diverged, take smaller steps"
            )
        with self._disk_full():
            self._array("samples")[rows.start : rows.stop] = values
            for name in COSTS:
                self._array(name)[b : b + 1] = float(cost[name])
            self._array("done")[rows.start : rows.stop] = 1

    def read_block(self, b: int) -> Tensor:
        """A written block as it is stored, float64, `(samples of the block, channel, *space)`."""
        rows = self.sample_range(b)
        values = np.asarray(self._array("samples")[rows.start : rows.stop], dtype=np.float64)
        return torch.from_numpy(values).reshape(len(rows), len(self._field.channels), *self._field.grid.shape)

    def finish(self, cost: Mapping[str, Any] | None = None, diagnostics: Mapping[str, Any] | None = None) -> None:
        """Add mean and standard deviation, mark the posterior complete and rename it to its path.

        Arguments:
            cost: Further costs of the run, beside the sums over blocks of what `write_block` was told.
            diagnostics: How far the samples can be trusted (reduced chi-square of the data, ...).

        Raises:
            InfieldError: Blocks are missing, `path` appeared meanwhile, or the disk is full.
        """
        missing = self.missing_blocks()
        if missing:
            raise refusal(self.partial, "done", f"{len(missing)} missing blocks", f"all {self.blocks} blocks written")
        mean, std = self._moments()
        totals = {name: float(self._read(name).sum()) for name in COSTS}
        with self._disk_full(), zarr.config.set({"array.write_empty_chunks": True}):  # the std of one sample is NaN
            self._array("mean")[...] = mean
            self._array("std")[...] = std
            self._group.attrs.update(
                {
                    "cost": json.dumps({**totals, **(cost or {})}),
                    "diagnostics": json.dumps(dict(diagnostics or {})),
                    "infield_complete": 1,
                }
            )
            put_in_place(self.partial, self.path, self.overwrite)

    def _moments(self) -> tuple[np.ndarray, np.ndarray]:
        """Mean and unbiased standard deviation over samples, one block in memory (update of Chan et al. 1983)."""
        count, mean, squares = 0, np.zeros(self._shape), np.zeros(self._shape)
        for b in range(self.blocks):
            rows = self.sample_range(b)
            values = np.asarray(self._array("samples")[rows.start : rows.stop], dtype=np.float64)
            shift = values.mean(0) - mean
            squares += ((values - values.mean(0)) ** 2).sum(0) + shift**2 * count * len(rows) / (count + len(rows))
            count += len(rows)
            mean += shift * len(rows) / count
        return mean, np.sqrt(squares / (count - 1)) if count > 1 else np.full_like(mean, np.nan)

    def _array(self, name: str) -> zarr.Array:
        array = self._group[name]
        assert isinstance(array, zarr.Array)
        return array

    def _read(self, name: str) -> np.ndarray:
        return np.asarray(self._array(name)[...])

    def _disk_full(self) -> Any:
        remedy = f"make room and start the same command again, it goes on from {self.partial.name}"
        return disk_full_in_words(self.path, remedy)

    def _check_same_run(self) -> None:
        remedy = f"finish that run with its own settings, or remove {self.partial} to start afresh"
        try:
            found = json_attribute(self.partial, open_group(self.partial, "posterior", VERSION), "infield_run")
        except InfieldError as error:
            raise InfieldError(f"{error}; remove {self.partial} to start afresh") from None
        for key in sorted(found.keys() | self._run.keys()):
            if found.get(key) != self._run.get(key):
                raise refusal(self.partial, key, repr(found.get(key)), repr(self._run.get(key)), remedy)

    def _create(self, title: str) -> None:
        """Lay out the partial group; it appears under its name only when the layout is whole."""
        draft = self.partial.with_name(self.partial.name + ".draft")
        shutil.rmtree(draft, ignore_errors=True)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lay_out_posterior(draft, self._field, self._run, title)
            draft.rename(self.partial)
        except BaseException:
            remove_for_good(draft)
            raise


def open_posterior(path: str | Path) -> xr.Dataset:
    """Open a finished posterior, its arrays still on disk.

    Arguments:
        path: Directory of the zarr group.

    Returns:
        The dataset with `samples`, `mean`, `std`, `done` and the coordinates of the field.

    Raises:
        InfieldError: The path is missing or no zarr group; the posterior is foreign, newer, not complete or truncated.
    """
    path = Path(path)
    group = open_group(path, "posterior", VERSION)
    if group.attrs.get("infield_complete") != 1:
        raise refusal(
            path,
            "infield_complete",
            repr(group.attrs.get("infield_complete")),
            "1",
            "this run is not finished, start it again to go on",
        )
    read_field(path, group)
    for name in ("samples", "mean", "std", "done"):
        if name not in group.variables:
            raise refusal(path, name, "no such variable", f"one of {sorted(map(str, group.variables))}")
        refuse_missing_chunks(path, name, zeros_may_be_absent=False)
    undone = int((group["done"] != 1).sum())
    if undone:
        raise refusal(path, "done", f"{undone} samples that are not written", "every sample written")
    return group
