"""The posterior format: samples with coordinates, mean and standard deviation, and what they cost.

The format is specified in docs/formats.md; how a run is written and resumes after a kill, in `block_writer`.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import torch
import xarray as xr
import zarr
from torch import Tensor

from infield.core.errors import InfieldError
from infield.core.grid import Grid, PointSet
from infield.core.json_text import to_json
from infield.datasets.formats import accessor as accessor  # registers `dataset.infield`
from infield.datasets.formats.block_writer import BlockWriter, check_samples, open_finished
from infield.datasets.formats.carried import Carried
from infield.datasets.formats.field import Field, read_field
from infield.datasets.formats.posterior_layout import COSTS, VERSION, event_shape, lay_out_posterior
from infield.datasets.formats.zarr_group import checked

BLOCK_DIAGNOSTICS = "block_diagnostics"


class PosteriorWriter(BlockWriter):
    """Writes a posterior block by block into `<path>.partial`, and resumes an earlier run of it that was stopped.

    Arguments:
        path: The posterior to write.
        grid: Domain of the field.
        channels: Names of its channels.
        units: Units of its values.
        samples: Number of samples; none where mean and standard deviation are known otherwise.
        block: Samples that are written together; also the chunk of the file. The last block may be smaller.
        run: What makes the samples what they are: `sampler`, `sampler_parameters`, `prior`, `prior_sha256`, `seed`,
            `measurement_sha256`, in JSON types. A run is only continued where all of it is the same.
        dtype: "float32" or "float64", in which samples are stored.
        title: Human-readable, in one line.
        overwrite: Whether an existing posterior may be replaced, once the new one is finished.
        known: Of keys of `run`; see `BlockWriter`.
        carried: What goes along with the field from its measurement: attributes of CF, bounds, land.

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
        known: Mapping[str, Callable[[Any], bool]] | None = None,
        carried: Carried | None = None,
    ) -> None:
        self._field = Field(grid, tuple(channels), units)
        self._shape, self._carried = event_shape(self._field), carried
        layout = {"samples": samples, "block": block, "dtype": dtype}
        coordinates = hashlib.sha256(json.dumps(grid.to_json()).encode()).hexdigest()
        about_field = {"field": json.loads(self._field.attribute()), "grid_sha256": coordinates}
        self._run = json.loads(json.dumps({**run, **layout, **about_field}))
        super().__init__(
            path,
            kind="posterior",
            version=VERSION,
            samples=samples,
            block=block,
            run=self._run,
            lay_out=lambda draft: self._lay_out(draft, title),
            overwrite=overwrite,
            known=known,
        )

    def _lay_out(self, draft: Path, title: str) -> None:
        lay_out_posterior(draft, self._field, self._run, title, carried=self._carried)

    def write_block(
        self, b: int, tensor: Tensor, cost: Mapping[str, float], diagnostics: Mapping[str, float] | None = None
    ) -> None:
        """Write one block and what it cost, then its flag.

        Arguments:
            b: Number of the block.
            tensor: Its samples, `(samples of the block, channel, *space)`, in the units of the field.
            cost: `velocity_calls`, `operator_calls` and `seconds` that were spent on this block.
            diagnostics: What the sampler reports of this block.

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
                where=self.path,
                found=f"NaN or infinity among samples {rows.start} to {rows.stop - 1}",
                expected="finite values",
                remedy="the sampler diverged, take smaller steps",
            )
        self._record_report(b, BLOCK_DIAGNOSTICS, diagnostics or {})
        self._write_block(b, {"samples": values}, {name: cost[name] for name in COSTS})

    def read_block(self, b: int) -> Tensor:
        """A written block as it is stored, float64, `(samples of the block, channel, *space)`."""
        rows = self.sample_range(b)
        values = np.asarray(self._array("samples")[rows.start : rows.stop], dtype=np.float64)
        return torch.from_numpy(values).reshape(len(rows), len(self._field.channels), *self._field.grid.shape)

    def finish(
        self,
        cost: Mapping[str, Any] | None = None,
        diagnostics: Mapping[str, Any] | None = None,
        *,
        moments: Mapping[str, tuple[np.ndarray, Mapping[str, Any]]] | None = None,
        attributes: Mapping[str, Any] | None = None,
    ) -> None:
        """Add mean and standard deviation, mark the posterior complete and rename it to its path.

        Arguments:
            cost: Further costs of the run, beside the sums over blocks of the costs given to `write_block`.
            diagnostics: How far the samples can be trusted (reduced chi-square of the data, ...), beside the means over
                blocks of the diagnostics given to `write_block`.
            moments: `mean` and `std`, `(channel, *space)`, where they are known otherwise than from the samples; each
                with attributes that describe how.
            attributes: Further attributes of the file, in JSON types.

        Raises:
            InfieldError: Blocks are missing, `path` appeared meanwhile, or the disk is full.
        """
        self.refuse_missing_blocks()
        arrays = self._final_moments(moments)
        self._complete(arrays, {**self._told(cost or {}, diagnostics or {}), **(attributes or {})})

    def add_beside(self, arrays: Mapping[str, np.ndarray], about: Mapping[str, str]) -> None:
        """Add arrays beside the samples, once all blocks are written and before the posterior is finished.

        Arguments:
            arrays: By name: of all samples, `(samples, channel, *space)`, or of the field, `(channel, *space)`.
            about: Human-readable description of each.

        Raises:
            InfieldError: Blocks are missing, or the disk is full.
        """
        self.refuse_missing_blocks()
        samples, mean = self._array("samples"), self._array("mean")
        with self._disk_full(), zarr.config.set({"array.write_empty_chunks": True}):
            for name, values in arrays.items():
                like = samples if values.ndim == 2 + len(self._field.grid.shape) else mean
                array = self._group.create_array(
                    name,
                    shape=like.shape,
                    chunks=like.chunks,
                    dimension_names=like.metadata.dimension_names,  # type: ignore[union-attr]
                    dtype=self._run["dtype"],
                    fill_value=np.nan,
                    compressors=checked(),
                    attributes={"units": self._field.units, "long_name": about[name]},
                    overwrite=True,
                )
                array[...] = values.reshape(like.shape).astype(self._run["dtype"])

    def _final_moments(
        self, moments: Mapping[str, tuple[np.ndarray, Mapping[str, Any]]] | None
    ) -> Mapping[str, np.ndarray]:
        """Mean and standard deviation as they are to be written: of the samples, or those that are given."""
        if moments is None:
            mean, std = self._moments()
        else:
            mean, std = (moments[name][0].reshape(self._shape) for name in ("mean", "std"))
            with self._disk_full():
                for name, (_, about) in moments.items():
                    self._array(name).attrs.update(about)
        return {"mean": mean, "std": std}

    def _told(self, cost: Mapping[str, Any], diagnostics: Mapping[str, Any]) -> dict[str, str]:
        """Attributes of the run as a whole."""
        totals = {name: float(self._read(name).sum()) for name in COSTS}
        return {
            "cost": to_json({**totals, **cost}),
            "diagnostics": to_json({**self.block_means(), **diagnostics}),
        }

    def block_means(self) -> dict[str, float]:
        """Means over the blocks that are written of what `write_block` recorded."""
        reports = list(self._reports(BLOCK_DIAGNOSTICS).values())
        names = dict.fromkeys(name for report in reports for name in report)
        known = {name: [report[name] for report in reports if report.get(name) is not None] for name in names}
        return {name: fmean(values) if values else math.nan for name, values in known.items()}

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


def open_posterior(path: str | Path) -> xr.Dataset:
    """Open a finished posterior, its arrays still on disk.

    Arguments:
        path: Directory of the zarr group.

    Returns:
        The dataset with `samples`, `mean`, `std`, `done` and the coordinates of the field.

    Raises:
        InfieldError: The path is missing or no zarr group; the posterior is foreign, newer, not complete or truncated.
    """
    group = open_finished(path, "posterior", VERSION)
    read_field(Path(path), group)
    check_samples(path, group, ("samples", "mean", "std"))
    return group
