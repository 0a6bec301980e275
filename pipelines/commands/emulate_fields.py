"""New fields drawn from a prior; the options are in `emulate_fields_options`."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import xarray as xr

from infield.core.errors import InfieldError
from infield.core.grid import Grid, grid_from_json
from infield.core.json_text import to_json
from infield.core.randomness import sample_generator
from infield.datasets.formats.field import CHANNEL, COMPLEX_CHANNELS, Field
from infield.datasets.formats.simulation import SimulationWriter, Variable
from infield.datasets.training.field_of_file import field_of_file
from infield.pipelines.run.blocks import check_run, run_missing_blocks, run_settings
from infield.pipelines.run.console import table
from infield.pipelines.run.devices import device_named
from infield.pipelines.run.options import check_at_least
from infield.pipelines.run.precision import dtype_of_fields
from infield.pipelines.run.prior_choice import ChosenPrior, prior_file, prior_of_field
from infield.pipelines.run.process import one_thread
from infield.priors.base import FlowPrior
from infield.priors.draws import STEPS, draw_fields, exact
from infield.priors.storage.checkpoint import load_flow_prior
from infield.priors.storage.flow_entry import KIND

NAME = "field"
"""Of the variable, as `infield fit` expects it."""

MAX_VALUES_PER_BLOCK = 2**17
"""Values that are drawn together, in blocks of at most 8 fields."""


def run(arguments: argparse.Namespace) -> int:
    if arguments.extrapolate:
        raise InfieldError(
            where="--extrapolate", found="a prior of fields", expected="a prior with conditions", remedy="leave it out"
        )
    summary = emulate_fields(
        arguments.prior,
        arguments.output,
        like=arguments.like,
        steps=arguments.steps,
        device=arguments.device,
        **run_settings(arguments),
    )
    if arguments.json:
        print(to_json(summary))
        return 0
    units = "" if summary["units"] == "1" else f" {summary['units']}"
    spread = f"mean {summary['mean']:.4g}, standard deviation {summary['std']:.4g}{units}"
    rows = {
        "samples": f"{summary['samples']} of the prior {summary['prior']}",
        "points": " x ".join(map(str, summary["shape"])),
        "field": f"{', '.join(summary['channels'])}: {spread}",
        "drawn": "exactly" if summary["steps"] is None else f"by its flow, {summary['steps']} network calls a field",
        "seconds": f"{summary['seconds']:.1f}",
    }
    table(str(arguments.output), rows)
    return 0


@one_thread()
def emulate_fields(
    prior: str | Path,
    output: Path,
    *,
    like: Path | None = None,
    steps: int | None = None,
    device: str = "auto",
    samples: int = 64,
    seed: int = 0,
    workers: int | None = None,
    scheduler: str | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """The command as a function; returns a summary in plain JSON types.

    Raises:
        InfieldError: An error in the input that the user can fix; no incomplete file is left at `output`.
    """
    start = time.perf_counter()
    check_at_least(1, steps=steps)
    check_run(samples, seed, workers, scheduler, output=output, overwrite=overwrite)
    field, chosen = placed(Path(prior), like, device_named(device))
    law, grid = chosen.prior, field.grid
    assert isinstance(law, FlowPrior) and isinstance(grid, Grid)
    taken = None if exact(law) else steps or STEPS
    variable, channel = _variable(field, f"fields of the prior {chosen.label}")
    block = max(1, min(8, MAX_VALUES_PER_BLOCK // math.prod((len(field.channels), *grid.shape))))
    provenance = getattr(law, "provenance", {})
    writer = SimulationWriter(
        output,
        grid=grid,
        variables=(variable,),
        samples=samples,
        block=block,
        run={
            "kind": "emulated",
            "parameters": {"prior": chosen.label, "sha256": chosen.sha256, "steps": taken},
            "seed": seed,
            **_facts(provenance),
        },
        dtype=dtype_of_fields(law),
        title=f"Fields drawn from the prior {chosen.label}",
        coordinates=channel,
        overwrite=overwrite,
    )

    def write(b: int, result: Callable[[], np.ndarray]) -> None:
        rows = writer.sample_range(b)
        writer.write_block(b, {NAME: _stored(result()[: len(rows)], field.channels)})

    shared = (law, seed, block, taken or STEPS)
    run_missing_blocks(writer, draw_block, shared, write, scheduler=scheduler, workers=workers, quiet=quiet)
    writer.finish()
    return {
        "output": str(output),
        "prior": chosen.label,
        "sha256": chosen.sha256,
        "samples": samples,
        "shape": list(grid.shape),
        "channels": list(field.channels),
        "units": field.units,
        "steps": taken,
        "seed": seed,
        **_spread(output),
        "seconds": time.perf_counter() - start,
    }


def placed(prior: Path, like: Path | None, device: str) -> tuple[Field, ChosenPrior]:
    """The field that is drawn, and the prior on its grid.

    Arguments:
        prior: A checkpoint or a YAML description.
        like: A file whose grid is used; None for that of the training.
        device: Where networks run.

    Raises:
        InfieldError: The prior is no distribution of fields, cannot be placed on the grid, or has none of its own.
    """
    given = None if like is None else field_of_file(like)
    path = prior_file(str(prior))
    if path.suffix in (".yaml", ".yml"):
        if given is None:
            raise InfieldError(
                where=path,
                found="a description, which holds for any grid",
                expected="a grid",
                remedy="name a file that has one ({like})",
                parameters=["like"],
            )
        chosen = prior_of_field(str(path), given)
        return Field(given.grid, given.channels, getattr(chosen.prior, "units", None) or given.units), chosen
    loaded = load_flow_prior(path, device)
    grid = grid_from_json(loaded.grid_description) if given is None else given.grid
    if not isinstance(grid, Grid):
        raise InfieldError(
            where=path,
            found="a prior of fields on scattered points",
            expected="a grid to draw on",
            remedy="name a file that has one ({like})",
            parameters=["like"],
        )
    field = Field(grid, loaded.channels, loaded.units)
    return field, prior_of_field(str(path), field, device, (KIND, loaded))


def draw_block(prior: FlowPrior, seed: int, size: int, steps: int, block: int) -> np.ndarray:
    """All fields of one block, needed or not: so that no field depends on how many there are."""
    torch.set_num_threads(1)
    generators = [sample_generator(seed, i) for i in range(block * size, (block + 1) * size)]
    return draw_fields(prior, generators, steps=steps).numpy(force=True)


def _variable(field: Field, words: str) -> tuple[Variable, dict[str, xr.Variable]]:
    """The variable of the file, and the coordinate that names its channels where it has some."""
    grid = field.grid
    assert isinstance(grid, Grid)
    if field.channels == COMPLEX_CHANNELS:
        return Variable(NAME, words, field.units, complex=True), {}
    if len(field.channels) == 1:
        return Variable(NAME, words, field.units), {}
    axes = ((CHANNEL, len(field.channels)), *zip(grid.names, grid.shape, strict=True))
    return Variable(NAME, words, field.units, axes=axes), {CHANNEL: field.coordinates()[CHANNEL]}


def _stored(values: np.ndarray, channels: tuple[str, ...]) -> np.ndarray:
    """Fields `(samples, channel, *space)` as the file holds them."""
    if channels == COMPLEX_CHANNELS:
        return values[:, 0] + 1j * values[:, 1]
    return values[:, 0] if len(channels) == 1 else values


def _facts(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """What a prior's training data stated of themselves, e.g. that they are synthetic; a file of draws repeats it."""
    found = provenance.get("data") or {}
    return {name: int(value) if value == int(value) else value for name, value in found.items()}


def _spread(output: Path) -> dict[str, float]:
    """Mean and standard deviation of all values of the file; of complex ones, of both parts."""
    with xr.open_zarr(output, consolidated=False, chunks=None, decode_times=False) as group:
        sums = np.zeros(3)
        for i in range(group.sizes["sample"]):
            x = np.atleast_1d(group[NAME][i].values)
            x = x.view(x.real.dtype).astype(np.float64)
            sums += x.size, x.sum(), np.square(x).sum()
    mean = sums[1] / sums[0]
    return {"mean": float(mean), "std": float(np.sqrt(max(sums[2] / sums[0] - mean**2, 0.0)))}
