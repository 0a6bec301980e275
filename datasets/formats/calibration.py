"""The calibration format: simulations of one measurement's operator and noise, their truths and draws, and the verdict.

The format is specified in docs/formats.md; how a run is written and resumed, in `block_writer`. A simulation is a
"sample" of this file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from infield.core.errors import InfieldError
from infield.core.grid import Grid, PointSet
from infield.datasets.formats.block_writer import BlockWriter, check_samples, create_done_flags, makers, open_finished
from infield.datasets.formats.field import Field, read_field
from infield.datasets.formats.posterior_layout import event_shape
from infield.datasets.formats.zarr_group import CONVENTIONS, checked, json_attribute, lay_out_group

VERSION = 1
KIND = "calibration"
VERDICT = "calibration"
"""Attribute with the verdict, JSON."""


class CalibrationWriter(BlockWriter):
    """Writes simulations one by one into `<path>.partial`, and resumes a run of them that was stopped.

    Arguments:
        path: The file to write.
        grid: Domain of the field.
        channels: Names of its channels.
        units: Units of its values.
        simulations: How many.
        draws: Of each.
        misfits: Names of the data whose log likelihood is kept.
        run: What makes the simulations what they are, in JSON types; only a run of all the same is continued.
        overwrite: Whether an existing file may be replaced.
        known: Of keys of `run`; see `BlockWriter`.

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
        simulations: int,
        draws: int,
        misfits: tuple[str, ...],
        run: Mapping[str, Any],
        overwrite: bool = False,
        known: Mapping[str, Callable[[Any], bool]] | None = None,
    ) -> None:
        self._field, self.draws, self.misfits = Field(grid, tuple(channels), units), draws, misfits
        self._shape = event_shape(self._field)
        layout = {"simulations": simulations, "draws": draws, "misfits": list(misfits)}
        self._run = json.loads(json.dumps({**run, **layout, "field": json.loads(self._field.attribute())}))
        super().__init__(
            path,
            kind=KIND,
            version=VERSION,
            samples=simulations,
            block=1,
            run=self._run,
            lay_out=self._lay_out,
            overwrite=overwrite,
            known=known,
        )

    def _lay_out(self, draft: Path) -> None:
        attributes = {
            **{key: value if isinstance(value, str | int) else json.dumps(value) for key, value in self._run.items()},
            "Conventions": CONVENTIONS,
            "infield_format": KIND,
            "infield_version": VERSION,
            "infield_complete": 0,
            "infield_run": json.dumps(self._run),
            "field": self._field.attribute(),
            "title": "Simulations by which a sampler is calibrated",
            **makers(),
        }
        coordinates = self._field.coordinates()
        coordinates["sample"] = xr.Variable(("sample",), np.arange(self.samples))
        group = lay_out_group(draft, xr.Dataset(coords=coordinates, attrs=attributes))
        dims = (*(("channel",) if len(self._field.channels) > 1 else ()), *self._field.dims)
        n, about = self.draws, {"units": self._field.units}

        def lay_out(name: str, dims: tuple[str, ...], shape: tuple[int, ...], dtype: str, about: dict) -> None:
            group.create_array(
                name,
                shape=(self.samples, *shape),
                chunks=(1, *shape),
                dimension_names=("sample", *dims),
                dtype=dtype,
                fill_value=np.nan,
                compressors=checked(),
                attributes=about,
            )

        lay_out("truth", dims, self._shape, "float32", about)
        lay_out("draws", ("draw", *dims), (n, *self._shape), "float32", about)
        lay_out("log_likelihood", ("candidate", "data"), (n + 1, len(self.misfits)), "float64", {"units": "1"})
        lay_out("seconds", (), (), "float64", {"units": "s"})
        create_done_flags(group, self.samples, 1)

    def write_simulation(self, s: int, truth: Tensor, draws: Tensor, log_likelihood: Tensor, seconds: float) -> None:
        """Write one simulation, then its flag.

        Arguments:
            s: Its number.
            truth: Shape `(channel, *space)`.
            draws: Shape `(draws, channel, *space)`.
            log_likelihood: Of truth and draws, shape `(1 + draws, len(misfits))`.
            seconds: That it took.

        Raises:
            InfieldError: A number is not finite, or the disk is full.
        """
        for what, values in (("truth", truth), ("draws", draws)):
            if not bool(torch.isfinite(values).all()):
                raise InfieldError(where=self.path, found=f"NaN or infinity among the {what} of simulation {s}",
                                   expected="finite values")  # fmt: skip
        rows = {
            "truth": truth.detach().cpu().numpy().reshape(1, *self._shape).astype("float32"),
            "draws": draws.detach().cpu().numpy().reshape(1, self.draws, *self._shape).astype("float32"),
            "log_likelihood": log_likelihood.detach().cpu().numpy()[None],
            "seconds": np.array([seconds]),
        }
        self._write_block(s, rows)

    def read(self, s: int) -> tuple[Tensor, Tensor, Tensor]:
        """Truth, draws and log likelihoods of a simulation as they are stored, float64."""
        shape = (len(self._field.channels), *self._field.grid.shape)
        truth, draws, log_likelihood = (
            torch.from_numpy(np.asarray(self._array(name)[s], dtype=np.float64))
            for name in ("truth", "draws", "log_likelihood")
        )
        return truth.reshape(shape), draws.reshape(self.draws, *shape), log_likelihood

    def finish(self, verdict: Mapping[str, Any], arrays: Mapping[str, tuple[tuple[str, ...], np.ndarray]]) -> None:
        """Add the verdict and what mends, mark the file complete and rename it to its path.

        Arguments:
            verdict: In JSON types.
            arrays: Further arrays by name, with their dimensions.

        Raises:
            InfieldError: Simulations are missing, `path` appeared meanwhile, or the disk is full.
        """
        self.refuse_missing_blocks()
        with self._disk_full():
            for name, (dims, values) in arrays.items():
                self._group.create_array(
                    name,
                    shape=values.shape,
                    chunks=values.shape,
                    dimension_names=dims,
                    dtype="float32",
                    fill_value=np.nan,
                    compressors=checked(),
                    overwrite=True,
                )
        values_of = {name: values for name, (_, values) in arrays.items()}
        self._complete(values_of, {VERDICT: json.dumps(verdict, allow_nan=False)})


@dataclass(frozen=True)
class Calibration:
    """A finished calibration.

    Arguments:
        path: Of its file.
        dataset: Its arrays, on disk.
        run: What the simulations depend on.
        verdict: Their result.
    """

    path: Path
    dataset: xr.Dataset
    run: dict[str, Any]
    verdict: dict[str, Any]


def open_calibration(path: str | Path) -> Calibration:
    """Open a finished calibration.

    Raises:
        InfieldError: The path is missing or no zarr group; the file is foreign, newer, not complete or truncated.
    """
    path = Path(path)
    group = open_finished(path, KIND, VERSION)
    read_field(path, group)
    check_samples(path, group, ("truth", "draws", "log_likelihood"))
    return Calibration(path, group, json_attribute(path, group, "infield_run"), json_attribute(path, group, VERDICT))
