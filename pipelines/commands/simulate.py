"""Data sets of simulated fields, with the solutions of a partial differential equation for each.

    infield simulate darcy -o DATA.zarr --samples 1000 --points 64 --seed 0
    infield simulate process --law gibbs -o DATA.zarr --samples 20000 --points 128
    infield simulate brain -o BRAINS.zarr --samples 8192 --points 128
    infield simulate channel --re-tau 180 --box minimal -o CHANNEL.zarr
    infield simulate wall-pressure --re-tau 500 --length 16pi -o LONG.zarr
    infield simulate 21cm -n 256 -o CONES.zarr
    infield simulate pet -n 2000 -o PET.zarr
    infield simulate projection -o CAPTURES --surface corner

Kinds: darcy, poisson, helmholtz, navier-stokes (variables coefficient and solution), process (variable field), brain
(variable image, complex slices of synthetic heads; needs the extra mri), channel, one turbulent flow in time,
wall-pressure, 21cm, lightcones of 21cmFAST (needs the extra cm21), pet, a synthetic cohort of longitudinal amyloid
PET (needs the extra pet), and projection, captures of projectors on a surface (needs the extra projection).
`infield simulate KIND --help` tells what each takes; all of them take --json and --quiet. A prior is trained on such a
file by `infield fit`. A run that was killed goes on when the same command is given again;
sample i depends on the seed and on i alone (of 21cm on the number of cones too).
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from infield.core import registry
from infield.core.errors import InfieldError
from infield.datasets.formats.simulation import SimulationWriter
from infield.datasets.formats.zarr_group import check_new
from infield.pipelines.run.blocks import add_run_arguments, check_run, run_missing_blocks, run_settings
from infield.pipelines.run.console import table
from infield.pipelines.run.options import Parser
from infield.pipelines.run.process import one_thread
from infield.pipelines.run.simulations import PROCESS, Simulation, make_simulation
from infield.pipelines.run.subcommand import Subcommand, add_subcommands, subcommand
from infield.priors.random_fields.processes import PROCESSES

GROUP = "simulators"

MAX_VALUES_PER_BLOCK = 2**16
"""Values of a variable that are drawn and stored together, in blocks of at least 16 and at most 1024 samples."""


def add_arguments(parser: Parser) -> None:
    add_subcommands(parser, GROUP, "kind", metavar="KIND", help="what is simulated")


def run(arguments: argparse.Namespace) -> int:
    with registry.plugins_recorded():  # the file names them
        return subcommand(GROUP, arguments.kind).run(arguments)


def add_field_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, required=True, metavar="DATA.zarr", help="the data set, a new file")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--shape", type=int, nargs="+", metavar="N", help="points along each axis, slowest first")
    size.add_argument("--points", type=int, metavar="N",
                      help="points along every axis (default 64 on two axes; 128 of a brain, or on one axis for a "
                      "process)")  # fmt: skip
    parser.add_argument("--law", metavar="NAME", help=f"of a process: {', '.join(PROCESSES)}")
    parser.add_argument("--with", dest="settings", action="append", default=[], metavar="PARAMETER=VALUE",
                        help="a parameter of law or equation, e.g. --with tau=5; may be repeated")  # fmt: skip
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32",
                        help="precision of the file (default float32; everything is computed in float64)")  # fmt: skip
    add_run_arguments(parser, samples=1000)


def run_fields(arguments: argparse.Namespace) -> int:
    shape = arguments.shape or ()
    if arguments.points is not None:
        shape = (arguments.points,) * (1 if arguments.kind == PROCESS else 2)
    return run_simulation(
        make_simulation(arguments.kind, law=arguments.law, shape=shape, settings=arguments.settings), arguments
    )


def run_simulation(simulation: Simulation, arguments: argparse.Namespace) -> int:
    """Simulate as options of `add_field_arguments` say."""
    summary = simulate(
        simulation,
        arguments.output,
        dtype=arguments.dtype,
        **run_settings(arguments),
    )
    if arguments.json:
        print(json.dumps(summary))
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
        InfieldError: Whatever of the input the user can mend; nothing that is not complete stands under `output` then.
    """
    start = time.perf_counter()
    check_run(samples, seed, workers, scheduler)
    check_new(output, overwrite)
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


def block_size(simulation: Simulation) -> int:
    """Samples that are drawn together; it depends on the grid alone, so that a sample is the same bits in every run."""
    return min(1024, max(16, MAX_VALUES_PER_BLOCK // math.prod(simulation.grid.shape)))


def draw_block(simulation: Simulation, seed: int, size: int, block: int) -> dict[str, np.ndarray]:
    """All samples of one block, wanted or not: so that no sample depends on how many there are."""
    torch.set_num_threads(1)
    found = simulation.samples(seed, range(block * size, (block + 1) * size))
    return {name: values.numpy() for name, values in found.items()}


FIELDS = Subcommand(__doc__ or "", add_field_arguments, run_fields)
