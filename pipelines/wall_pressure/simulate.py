"""Planes of a synthetic stand-in for wall pressure; the options are in `simulate_options`."""

from __future__ import annotations

import argparse
import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from infield.core.grid import Grid
from infield.core.json_text import to_json
from infield.core.randomness import SampleStreams
from infield.datasets.wall_pressure.plane_file import WallPlanes, WallPlaneWriter
from infield.physics.wall_pressure.wall_units import wall_grid
from infield.pipelines.run.blocks import check_run, run_missing_blocks, run_settings
from infield.pipelines.run.console import table
from infield.pipelines.run.options import check_at_least
from infield.pipelines.run.process import one_thread
from infield.pipelines.wall_pressure.half_heights import half_heights as half_heights
from infield.priors.wall_pressure.synthetic import WallPressure

MAX_VALUES_PER_BLOCK = 2**21
"""Values that are drawn and stored together, in blocks of at least 1 and at most 256 planes."""


def run(arguments: argparse.Namespace) -> int:
    check_at_least(1, multiple=arguments.multiple)
    law = WallPressure(arguments.re_tau, arguments.flatness)
    grid = wall_grid(
        arguments.re_tau,
        arguments.length,
        arguments.width,
        dx_plus=arguments.dx_plus,
        dz_plus=arguments.dz_plus,
        multiple=arguments.multiple,
    )
    summary = simulate_wall_pressure(
        law,
        grid,
        arguments.output,
        **run_settings(arguments),
    )
    if arguments.json:
        print(to_json(summary))
        return 0
    nz, nx = summary["shape"]
    rows = {
        "planes": f"{summary['samples']} of a synthetic stand-in, no flow was computed",
        "Re_tau": f"{law.re_tau:g}",
        "points, z x x": f"{nz} x {nx}",
        "length, width": f"{summary['length']:.4g}, {summary['width']:.4g} half heights",
        "spacings": f"dx+ {grid.spacing[1]:.4g}, dz+ {grid.spacing[0]:.4g}",
        "seconds": f"{summary['seconds']:.1f}",
    }
    table(str(arguments.output), rows)
    return 0


@one_thread()
def simulate_wall_pressure(
    law: WallPressure,
    grid: Grid,
    output: Path,
    *,
    samples: int,
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
    check_run(samples, seed, workers, scheduler, output=output, overwrite=overwrite)
    parameters = {"law": "WallPressure", **dataclasses.asdict(law)}
    planes = WallPlanes(
        grid=grid,
        samples=samples,
        re_tau=law.re_tau,
        synthetic=True,
        provenance={"format": "synthetic random field", "parameters": parameters, "seed": seed},
        history=("drawn from infield.priors.wall_pressure.synthetic: a synthetic stand-in, no flow was computed",),
    )
    block = block_size(grid)
    run = {"kind": "synthetic wall pressure", "parameters": parameters, "seed": seed}
    writer = WallPlaneWriter(output, planes, run=run, block=block, overwrite=overwrite)

    def write(b: int, result: Callable[[], np.ndarray]) -> None:
        writer.write_block(b, result()[: len(writer.sample_range(b))])

    shared = (law, grid, seed, block)
    run_missing_blocks(writer, draw_block, shared, write, scheduler=scheduler, workers=workers, quiet=quiet)
    writer.finish()
    width, length = (extent / law.re_tau for extent in grid.lengths)
    return {
        "output": str(output),
        "kind": run["kind"],
        "synthetic": True,
        "samples": samples,
        "shape": list(grid.shape),
        "length": length,
        "width": width,
        "parameters": parameters,
        "seed": seed,
        "seconds": time.perf_counter() - start,
    }


def block_size(grid: Grid) -> int:
    """Planes that are drawn together; it depends on the grid alone, so that a plane is the same bits in every run."""
    return min(256, max(1, MAX_VALUES_PER_BLOCK // grid.size))


def draw_block(law: WallPressure, grid: Grid, seed: int, size: int, block: int) -> np.ndarray:
    """All planes of one block, needed or not: so that no plane depends on how many there are."""
    torch.set_num_threads(1)
    numbers = range(block * size, (block + 1) * size)
    return law.draw(grid, SampleStreams(seed, numbers).normal).numpy()
