"""21 cm lightcones drawn from a conditional prior; the options are in `emulate_options`."""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator

from infield.core.errors import InfieldError
from infield.core.json_text import to_json
from infield.datasets.cm21.lightcone_file import TEMPERATURE, Lightcones, lightcone_grid, lightcone_writer
from infield.pipelines.cm21.convert import about, rows_of
from infield.pipelines.cm21.emulation_points import EmulationPoints, read_points
from infield.pipelines.cm21.parameter_design import cone_seeds
from infield.pipelines.run.blocks import check_run, run_missing_blocks, run_settings
from infield.pipelines.run.console import table
from infield.pipelines.run.devices import device_named
from infield.pipelines.run.options import check_at_least
from infield.pipelines.run.process import one_thread
from infield.priors.cm21.prior import FLOW_STEPS, LightconePrior
from infield.priors.cm21.prior_entry import load_lightcone_prior

REDSHIFT_RTOL = 1e-6
"""Of redshifts that a person types."""


def run(arguments: argparse.Namespace) -> int:
    prior = load_lightcone_prior(arguments.prior, device=device_named(arguments.device))
    facts = emulate(
        prior,
        read_points(arguments.params),
        arguments.output,
        points=arguments.points,
        depth=arguments.depth,
        redshift=arguments.redshift_range,
        steps=arguments.steps,
        extrapolate=arguments.extrapolate,
        **run_settings(arguments),
    )
    if arguments.json:
        print(to_json(facts))
        return 0
    rows = {"prior": facts["prior"], **rows_of(facts), "network calls a cone": str(facts["velocity_calls"])}
    if facts["emulator"]:
        rows["network calls a cone"] += ", of the emulator"
    if facts["extrapolated"]:
        rows["beyond training"] = ", ".join(facts["extrapolated"])
    table(str(arguments.output), rows | {"seconds": f"{facts['seconds']:.1f}"})
    return 0


@one_thread()
def emulate(
    prior: LightconePrior,
    where: EmulationPoints,
    output: Path,
    *,
    points: int | None = None,
    depth: int | None = None,
    redshift: tuple[float, float] | None = None,
    steps: int | None = None,
    extrapolate: bool = False,
    samples: int = 64,
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
    check_at_least(1, points=points, steps=steps)
    check_run(samples, seed, workers, scheduler, output=output, overwrite=overwrite)
    beyond = _beyond(prior, where, extrapolate)
    cells = part_of_line(prior.redshift, depth, redshift)
    across = prior.points if points is None else (points, points)
    parameters, seeds = where.parameters(samples, seed), cone_seeds(samples, seed)
    cones = [{name: float(values[i]) for name, values in parameters.items()} for i in range(samples)]
    calls = prior.calls(steps)
    by = "the emulator of the prior" if prior.uses_emulator(steps) else "the prior"
    lightcones = Lightcones(
        grid=lightcone_grid(across, prior.cell, prior.distance[cells]),
        redshift=prior.redshift[cells],
        samples=samples,
        parameters=parameters,
        seeds=seeds,
        provenance={
            "prior": {"name": prior.name, "sha256": prior.sha256, "provenance": dict(prior.provenance)},
            "parameters": where.described,
            "velocity_calls": calls,
            **({"emulator": dict(prior.emulator.provenance)} if prior.emulator and prior.uses_emulator(steps) else {}),
            "extrapolated": beyond,
        },
        history=(
            f"drawn from {by} {prior.name} (sha256 {prior.sha256}), {calls} network calls a cone",
            *[f"extrapolated: {words}" for words in beyond],
        ),
    )
    run_of = {"seed": seed, "steps": None if prior.uses_emulator(steps) else steps or FLOW_STEPS}
    writer = lightcone_writer(output, lightcones, run=run_of, title="21 cm lightcones, emulated", overwrite=overwrite)

    def write(i: int, result: Callable[[], np.ndarray]) -> None:
        writer.write_block(i, {TEMPERATURE: result()[None]})

    shared = (prior, cones, seeds, across, cells, steps, extrapolate)
    run_missing_blocks(writer, draw_cone, shared, write, scheduler=scheduler, workers=workers, quiet=quiet)
    writer.finish()
    return {
        "output": str(output),
        "prior": prior.name,
        "sha256": prior.sha256,
        **about(lightcones),
        "velocity_calls": calls,
        "emulator": prior.uses_emulator(steps),
        "extrapolated": beyond,
        "seed": seed,
        "seconds": time.perf_counter() - start,
    }


def draw_cone(
    prior: LightconePrior,
    cones: list[dict[str, float]],
    seeds: np.ndarray,
    points: tuple[int, int],
    cells: slice,
    steps: int | None,
    extrapolate: bool,
    i: int,
) -> np.ndarray:
    """Cone number i, `(x, y, los)` in mK: of one thread, so that it is the same bytes on any number of cores."""
    torch.set_num_threads(1)
    generator = Generator().manual_seed(int(seeds[i]))
    drawn = prior.draw(cones[i], generator, points=points, cells=cells, steps=steps, extrapolate=extrapolate)
    return drawn[0].numpy(force=True)


def part_of_line(known: np.ndarray, depth: int | None, redshift: tuple[float, float] | None) -> slice:
    """Cells of a line of sight between two redshifts, at most so many from the lowest one on.

    Arguments:
        known: Redshifts of its cells, ascending.
        depth: Number of cells; None for all.
        redshift: Lowest and highest; None for all.

    Raises:
        InfieldError: They are not those of the line of sight, or too few cells are left.
    """
    first, stop = 0, len(known)
    if redshift is not None:
        low, high = redshift
        ends = known[0] - (known[1] - known[0]) / 2, known[-1] + (known[-1] - known[-2]) / 2
        if not (math.isfinite(low) and math.isfinite(high) and ends[0] <= low < high <= ends[1]):
            raise InfieldError(
                where="--redshift-range",
                found=f"{low:g} to {high:g}",
                expected=f"a lower and a higher one in {ends[0]:.6g} to {ends[1]:.6g}, the range of the prior",
            )
        inside = np.flatnonzero((known >= low - REDSHIFT_RTOL) & (known <= high + REDSHIFT_RTOL))
        first, stop = (int(inside[0]), int(inside[-1]) + 1) if len(inside) else (0, 0)
    found = stop - first
    if found < 2:
        raise InfieldError(
            where="--redshift-range", found=f"{found} cells between them", expected="at least 2", remedy="ask for more"
        )
    if depth is not None and not 2 <= depth <= found:
        raise InfieldError(
            where="--depth",
            found=f"{depth} cells",
            expected=f"2 to {found}, the range of the prior from z = {known[first]:.4g} to {known[stop - 1]:.4g}",
        )
    return slice(first, stop if depth is None else first + depth)


def _beyond(prior: LightconePrior, where: EmulationPoints, extrapolate: bool) -> list[str]:
    """Warnings about parameters outside the range of training, which are refused unless extrapolation is allowed."""
    found: dict[str, None] = {}
    for point in where.corners:
        try:
            prior.theta(point, extrapolate=extrapolate)
        except InfieldError as error:
            raise error.within(where.path) from error
        found |= dict.fromkeys(_words(point, prior.ranges))
    return list(found)


def _words(point: Mapping[str, float], ranges: Mapping[str, tuple[float, float]]) -> list[str]:
    return [
        f"{name} {point[name]:g}, training {low:g} to {high:g}"
        for name, (low, high) in ranges.items()
        if not low <= point[name] <= high
    ]
