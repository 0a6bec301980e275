"""Simulation of random fields and of solutions of partial differential equations; options are in `simulate_options`."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import xarray as xr

from infield.core.errors import InfieldError
from infield.core.json_text import to_json
from infield.core.renamed import old_names
from infield.datasets.formats.field import CHANNEL, Field
from infield.datasets.formats.simulation import SimulationWriter
from infield.pipelines.run.blocks import check_run, run_missing_blocks, run_settings
from infield.pipelines.run.console import table
from infield.pipelines.run.process import one_thread
from infield.pipelines.run.simulations import PROCESS, Simulation, make_simulation

if not TYPE_CHECKING:
    __getattr__ = old_names(__name__)

MAX_VALUES_PER_BLOCK = 2**16
"""Values of a variable that are drawn and stored together, in blocks of at least 16 and at most 1024 samples."""


def run_fields(arguments: argparse.Namespace) -> int:
    shape = arguments.shape or ()
    if arguments.points is not None:
        shape = (arguments.points,) * (1 if arguments.kind == PROCESS else 2)
    return run_simulation(
        make_simulation(arguments.kind, law=arguments.law, shape=shape, settings=arguments.settings), arguments
    )


def run_simulation(simulation: Simulation, arguments: argparse.Namespace) -> int:
    """Simulate by the options of `add_field_arguments`."""
    summary = simulate(
        simulation,
        arguments.output,
        dtype=arguments.dtype,
        **run_settings(arguments),
    )
    if arguments.json:
        print(to_json(summary))
        return 0
    law = summary["parameters"]["law"]
    rows = {
        "samples": f"{summary['samples']} of {simulation.kind}",
        "points": " x ".join(map(str, summary["shape"])),
        "variables": ", ".join(summary["variables"]),
        "law": f"{law['name']}: {', '.join(f'{k} {v}' for k, v in law.items() if k != 'name' and v is not None)}",
        "seconds": f"{summary['seconds']:.1f}",
    }
    table(str(arguments.output), rows)
    return 0


@one_thread()
def simulate(
    simulation: Simulation,
    output: Path,
    *,
    samples: int = 1000,
    seed: int = 0,
    dtype: str = "float32",
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
    check_run(samples, seed, workers, scheduler, output=output, overwrite=overwrite)
    block = block_size(simulation)
    writer = SimulationWriter(
        output,
        grid=simulation.grid,
        variables=simulation.variables,
        samples=samples,
        block=block,
        run={"kind": simulation.kind, "parameters": simulation.parameters, "seed": seed},
        dtype=dtype,
        title=f"Simulated fields: {simulation.kind}",
        coordinates=channel_coordinate(simulation),
        overwrite=overwrite,
    )

    def write(b: int, result: Callable[[], dict[str, np.ndarray]]) -> None:
        rows = writer.sample_range(b)
        try:
            fields = result()
        except InfieldError as error:
            raise error.within(f"samples {rows.start} to {rows.start + block - 1}") from error
        writer.write_block(b, {name: values[: len(rows)] for name, values in fields.items()})

    shared = (simulation, seed, block)
    run_missing_blocks(writer, draw_block, shared, write, scheduler=scheduler, workers=workers, quiet=quiet)
    writer.finish()
    return {
        "output": str(output),
        "kind": simulation.kind,
        "samples": samples,
        "shape": list(simulation.grid.shape),
        "variables": [variable.name for variable in simulation.variables],
        "parameters": simulation.parameters,
        "seed": seed,
        "seconds": time.perf_counter() - start,
    }


def channel_coordinate(simulation: Simulation) -> dict[str, xr.Variable]:
    """The coordinate that names the channels, where there are some."""
    found = Field(simulation.grid, simulation.channels, "1").coordinates()
    return {CHANNEL: found[CHANNEL]} if simulation.channels else {}


def block_size(simulation: Simulation) -> int:
    """Samples that are drawn together; it depends on the grid alone, so that a sample is the same bits in every run."""
    return min(1024, max(16, MAX_VALUES_PER_BLOCK // math.prod(simulation.grid.shape)))


def draw_block(simulation: Simulation, seed: int, size: int, block: int) -> dict[str, np.ndarray]:
    """All samples of one block, needed or not: so that no sample depends on how many there are."""
    torch.set_num_threads(1)
    found = simulation.samples(seed, range(block * size, (block + 1) * size))
    return {name: values.numpy() for name, values in found.items()}
