"""Two ensembles of 21 cm lightcones compared; the options are in `compare_options`."""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib
import torch
from torch import Generator, Tensor

from infield.core.errors import InfieldError
from infield.core.json_text import to_json
from infield.pipelines.cm21.members import Members, check_same_grid, members_of
from infield.pipelines.cm21.report import Ensemble, lightcone_pictures
from infield.pipelines.report import check_new_report, write_page
from infield.pipelines.report.canvas import STYLE
from infield.pipelines.report.page import page
from infield.pipelines.run.console import progress, table
from infield.pipelines.run.options import check_at_least
from infield.posterior.cm21.summary import Comparison, compare

BINS = 60

WORDS = {
    "global_signal": "global signal",
    "zeros": "share of exact zeros",
    "spectrum": "power spectrum",
    "cylindrical": "cylindrical spectrum",
    "scattering": "scattering coefficients",
}


def run(arguments: argparse.Namespace) -> int:
    check_new_report(arguments.output, arguments.overwrite)
    check_at_least(0, seed=arguments.seed)
    first = members_of(arguments.reference, arguments.first, "--first")
    second = members_of(arguments.other, arguments.second, "--second")
    for members in (first, second):
        if len(members.numbers) < 2:
            raise InfieldError(where=members.path, found="one cone", expected="at least two to compare ensembles")
    facts = compare_cones(
        first, second, arguments.output, chunk=arguments.chunk, seed=arguments.seed, quiet=arguments.json
    )
    if arguments.json:
        print(to_json(facts))
        return 0
    rows = {"cones": f"{facts['members'][0]} and {facts['members'][1]}"}
    for name, words in WORDS.items():
        score = facts["scores"][name]
        rows[f"{words}, MAE_std"] = _told(score)
    table(str(arguments.output), rows)
    return 0


def compare_cones(
    first: Members, second: Members, report: Path, *, chunk: int | None = None, seed: int = 0, quiet: bool = False
) -> dict[str, Any]:
    """The command as a function; returns the scores in plain JSON types.

    Raises:
        InfieldError: The ensembles are of different grids or too small, or the disk is full.
    """
    check_same_grid(first, second)
    nx, _, depth = first.cones.grid.shape
    cells = min(nx, depth) if chunk is None else chunk
    if not 4 <= cells <= depth:
        raise InfieldError(where="--chunk", found=f"{cells} cells", expected=f"4 to {depth}, the depth of the cones")
    edges = _edges(first, second)
    with progress(quiet=quiet) as bar:
        task = bar.add_task("cones", total=len(first.numbers) + len(second.numbers))
        found = [m.summary(cells, edges, lambda n: bar.advance(task, n)) for m in (first, second)]
    comparison = compare(found[0], found[1], Generator().manual_seed(seed))
    names = [members.path.name.removesuffix(".zarr") for members in (first, second)]
    if names[0] == names[1]:
        names = [f"{n} {m.numbers.start} to {m.numbers.stop - 1}" for n, m in zip(names, (first, second), strict=True)]
    ensembles = [
        Ensemble(name, members.cones, summary, members.block(0, 1)[0].numpy())
        for name, members, summary in zip(names, (first, second), found, strict=True)
    ]
    facts = {
        "output": str(report),
        "members": [len(first.numbers), len(second.numbers)],
        "cells_of_a_chunk": cells,
        "scores": {name: _scores(one) for name, one in comparison.items()},
        "exact_zeros": [float(summary.zeros.mean()) for summary in found],
        "parameters": [first.parameters, second.parameters],
    }
    with matplotlib.rc_context(STYLE):
        pictures = lightcone_pictures(ensembles[0], ensembles[1], comparison, cells, edges)
    warnings, tables = _warnings(first, second, facts), {"Scores": _rows(facts), "Ensembles": _about(first, second)}
    subtitle = f"{names[1]} against {names[0]}"
    write_page(report, page("21 cm lightcones, ensemble against ensemble", subtitle, warnings, [], pictures, tables))
    return facts


def _edges(first: Members, second: Members) -> Tensor:
    """Bins of temperature over the range of the first cones of both."""
    values = torch.cat([members.block(0, min(8, len(members.numbers))).flatten() for members in (first, second)])
    low, high = float(values.min()), float(values.max())
    margin = 0.05 * (high - low) or 1.0
    return torch.linspace(low - margin, high + margin, BINS + 1, dtype=torch.float64)


def _scores(one: Comparison) -> dict[str, Any]:
    found: dict[str, Any] = {**one.error.scores, "kept": one.error.kept, "band_of_MAE_std": list(one.score_band)}
    if one.floor is not None:
        found |= {"floor": one.floor.expected, "floor_of_halves": one.floor.halves}
        if one.floor.expected["MAE_std"] > 0:
            found["times_the_floor"] = found["MAE_std"] / one.floor.expected["MAE_std"]
    return {name: None if isinstance(v, float) and not math.isfinite(v) else v for name, v in found.items()}


def _told(score: dict[str, Any]) -> str:
    if score["MAE_std"] is None:
        return "no bin is kept"
    return f"{score['MAE_std']:.3f}" + (f", floor {score['floor']['MAE_std']:.3f}" if "floor" in score else "")


def _rows(facts: dict[str, Any]) -> list[tuple[str, str, str]]:
    rows = []
    for name, words in WORDS.items():
        score = facts["scores"][name]
        times = f"{score['times_the_floor']:.2f} times the floor" if "times_the_floor" in score else "floor not known"
        rows.append((f"{words}, MAE_std", _told(score), f"{times}; {score['kept']:.0%} of the bins kept"))
        if score["MAE_sigma"] is not None:
            floor = f"floor {score['floor']['MAE_sigma']:.3f}" if "floor" in score else ""
            rows.append((f"{words}, MAE_sigma", f"{score['MAE_sigma']:.3f}", floor))
    zeros = facts["exact_zeros"]
    rows.append(("exact zeros", f"{zeros[0]:.2%} and {zeros[1]:.2%}", "share of all voxels"))
    return rows


def _about(first: Members, second: Members) -> list[tuple[str, str, str]]:
    rows = []
    for members in (first, second):
        spans = [(name, low, high) for name, (low, high) in members.parameters.items()]
        spans_text = ", ".join(f"{name} {low:g}" + (f" to {high:g}" if high > low else "") for name, low, high in spans)
        rows.append((members.path.name, f"{len(members.numbers)} cones; {spans_text or 'parameters not known'}", ""))
    return rows


def _warnings(first: Members, second: Members, facts: dict[str, Any]) -> Sequence[str]:
    found = []
    if first.parameters != second.parameters:
        found.append(
            "The ensembles are of different parameters, or of different ranges of them: differences are no error of an "
            "emulator alone."
        )
    if min(facts["members"]) < 50:
        found.append(
            "Fewer than 50 members: medians and spreads are uncertain; read the scores beside their floor only."
        )
    return found
