"""21 cm lightcones of the simulator 21cmFAST 4, over a Latin hypercube of astrophysical parameters.

    infield simulate 21cm -n 256 -o cones.zarr
    infield simulate 21cm -n 64 --at ION_Tvir_MIN=4.8 --at HII_EFF_FACTOR=131.341 -o ensemble.zarr
    infield simulate 21cm -n 8 --points 32 --with N_STEP_TS=10 --with HIRES_TO_LOWRES_FACTOR=2 -o quick.zarr

It needs the extra: pip install 'infield[cm21]', or --python with another Python that has py21cmfast. Sources have a
constant ionising efficiency, spin temperatures are computed; without --range the box is ION_Tvir_MIN 4 to 6 (log10 K)
and HII_EFF_FACTOR 10 to 250, and X_RAY_Tvir_MIN is the same as ION_Tvir_MIN. One cone is one process with one thread;
--workers says how many run at a time. A run that was killed goes on when the same command is given again, with the same
cones. The file also keeps the density of the initial conditions, from which `fit_emulator.yaml` learns. One of 64 x 64
x 520 cells takes about three minutes of a core, one of 32 x 32 x 256 with coarse settings ten seconds.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from infield.core.errors import InfieldError
from infield.core.json_text import to_json
from infield.datasets.cm21.lightcone_file import DENSITY, TEMPERATURE, Lightcones, lightcone_grid, lightcone_writer
from infield.datasets.formats.zarr_group import check_new
from infield.physics.cm21.simulator import Simulator21cmFAST
from infield.pipelines.cm21.convert import about, rows_of
from infield.pipelines.cm21.parameter_design import Design, cone_seeds
from infield.pipelines.run.blocks import add_run_arguments, check_run, run_missing_blocks, run_settings
from infield.pipelines.run.console import table
from infield.pipelines.run.options import Parser, check_at_least, check_positive
from infield.pipelines.run.simulations import settings_of


def add_arguments(parser: Parser) -> None:
    parser.add_argument("--output", type=Path, required=True, metavar="CONES.zarr", help="the lightcones, a new file")
    parser.add_argument("--points", type=int, default=64, metavar="N", help="cells across (default 64)")
    parser.add_argument("--box-size", type=float, default=128.0, metavar="MPC",
                        help="size across, in comoving Mpc (default 128)")  # fmt: skip
    parser.add_argument("--depth", type=int, default=256, metavar="CELLS",
                        help="cells along the line of sight (default 256)")  # fmt: skip
    parser.add_argument("--redshift", type=float, default=7.51, metavar="Z",
                        help="redshift of the nearest cell (default 7.51)")  # fmt: skip
    parser.add_argument("--range", dest="ranges", nargs=3, action="append", default=[], metavar=("NAME", "LOW", "HIGH"),
                        help="a parameter that varies, by 21cmFAST's name; may be repeated")  # fmt: skip
    parser.add_argument("--at", dest="fixed", action="append", default=[], metavar="NAME=VALUE",
                        help="a parameter that is the same in all cones; may be repeated")  # fmt: skip
    parser.add_argument("--with", dest="settings", action="append", default=[], metavar="NAME=VALUE",
                        help="another setting of 21cmFAST, e.g. --with L_X=40; may be repeated")  # fmt: skip
    parser.add_argument("--python", metavar="PATH", help="a Python that has py21cmfast, where this one has not")
    parser.rename("--n", "--samples")
    parser.rename("--box", "--box-size")
    add_run_arguments(parser, samples=16, of="cones")


def run(arguments: argparse.Namespace) -> int:
    check_at_least(2, points=arguments.points, depth=arguments.depth)
    check_positive(box_size=arguments.box_size, redshift=arguments.redshift)
    simulator = Simulator21cmFAST(
        arguments.points,
        arguments.box_size,
        arguments.redshift,
        arguments.depth,
        settings_of(arguments.settings),
        arguments.python,
    )
    design = Design.parse(arguments.ranges, arguments.fixed)
    distances = sorted(set(design.ranges) & {"hlittle", "OMm", "OMb"})
    if distances:
        raise InfieldError(
            where=f"--range {distances[0]}",
            found="a range of a cosmology",
            expected="one value: cones of one file have one line of sight (--with)",
        )
    facts = simulate_lightcones(simulator, design, arguments.output, **run_settings(arguments))
    if arguments.json:
        print(to_json(facts))
    else:
        rows = rows_of(facts) | {"seconds": f"{facts['seconds']:.1f}"}
        table(str(arguments.output), rows)
    return 0


def simulate_lightcones(
    simulator: Simulator21cmFAST,
    design: Design,
    output: Path,
    *,
    samples: int = 16,
    seed: int = 0,
    workers: int | None = None,
    scheduler: str | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """The command as a function; returns facts in plain JSON types.

    Raises:
        InfieldError: Whatever of the input the user can mend; nothing that is not complete stands under `output` then.
    """
    start = time.perf_counter()
    check_run(samples, seed, workers, scheduler)
    check_new(output, overwrite)
    parameters, seeds = design.points(samples, seed), cone_seeds(samples, seed)
    cones = [{name: float(values[i]) for name, values in parameters.items()} for i in range(samples)]
    distance, redshift, described = simulator.line_of_sight(cones[0])
    told = {name: value for name, value in described["settings"].items() if name not in parameters}
    if "ION_Tvir_MIN" in parameters and "X_RAY_Tvir_MIN" not in simulator.settings:
        told["X_RAY_Tvir_MIN"] = "ION_Tvir_MIN"
    lightcones = Lightcones(
        grid=lightcone_grid((simulator.points,) * 2, simulator.box / simulator.points, distance),
        redshift=redshift,
        samples=samples,
        parameters=parameters,
        seeds=seeds,
        provenance={
            "simulator": f"21cmFAST {described['version']}",
            "template": described["template"],
            "settings": told,
            "ranges": {name: list(span) for name, span in design.ranges.items()},
        },
        history=(f"simulated by 21cmFAST {described['version']}, {described['nodes']} redshifts of evolution",),
    )
    run_of = {"seed": seed, "design": "Latin hypercube", **({"at": dict(design.fixed)} if design.fixed else {})}
    title = "21 cm lightcones, simulated"
    box = (described["box"],) * 3
    writer = lightcone_writer(output, lightcones, run=run_of, title=title, box=box, overwrite=overwrite)

    def write(i: int, result: Callable[[], tuple[np.ndarray, np.ndarray]]) -> None:
        try:
            temperature, density = result()
        except InfieldError as error:
            raise error.within(f"cone {i}") from error
        writer.write_block(i, {TEMPERATURE: temperature[None], DENSITY: density[None]})

    shared = (simulator, cones, seeds)
    run_missing_blocks(writer, draw_cone, shared, write, scheduler=scheduler, workers=workers, quiet=quiet)
    writer.finish()
    return {"output": str(output), **about(lightcones), "seed": seed, "seconds": time.perf_counter() - start}


def draw_cone(
    simulator: Simulator21cmFAST, cones: list[dict[str, float]], seeds: np.ndarray, i: int
) -> tuple[np.ndarray, np.ndarray]:
    """Temperatures and initial density of cone number i, in a process of its own."""
    return simulator.simulate(cones[i], int(seeds[i]))
