"""21 cm lightcones of the simulator 21cmFAST; the options are in `simulate_options`."""

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
from infield.physics.cm21.simulator import Simulator21cmFAST
from infield.pipelines.cm21.convert import about, rows_of
from infield.pipelines.cm21.parameter_design import Design, cone_seeds
from infield.pipelines.run.blocks import check_run, run_missing_blocks, run_settings
from infield.pipelines.run.console import table
from infield.pipelines.run.options import check_at_least, check_positive
from infield.pipelines.run.simulations import settings_of


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
        InfieldError: An error in the input that the user can fix; no incomplete file is left at `output`.
    """
    start = time.perf_counter()
    check_run(samples, seed, workers, scheduler, output=output, overwrite=overwrite)
    parameters, seeds = design.points(samples, seed), cone_seeds(samples, seed)
    cones = [{name: float(values[i]) for name, values in parameters.items()} for i in range(samples)]
    distance, redshift, described = simulator.line_of_sight(cones[0])
    stored_settings = {name: value for name, value in described["settings"].items() if name not in parameters}
    if "ION_Tvir_MIN" in parameters and "X_RAY_Tvir_MIN" not in simulator.settings:
        stored_settings["X_RAY_Tvir_MIN"] = "ION_Tvir_MIN"
    lightcones = Lightcones(
        grid=lightcone_grid((simulator.points,) * 2, simulator.box / simulator.points, distance),
        redshift=redshift,
        samples=samples,
        parameters=parameters,
        seeds=seeds,
        provenance={
            "simulator": f"21cmFAST {described['version']}",
            "template": described["template"],
            "settings": stored_settings,
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
