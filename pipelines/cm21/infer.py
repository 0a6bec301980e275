"""Astrophysical parameters of 21 cm lightcones; the options are in `infer_options`."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import torch
import xarray as xr
from scipy import stats
from torch import Generator, Tensor

from infield.core.errors import InfieldError
from infield.core.json_text import to_json
from infield.datasets.cm21.lightcone_file import PARAMETERS
from infield.datasets.cm21.parameter_file import write_parameters
from infield.datasets.formats.zarr_group import check_new
from infield.pipelines.cm21.members import Members, check_same_grid, members_of
from infield.pipelines.cm21.report_parameters import parameter_pictures
from infield.pipelines.report import check_new_report, write_page
from infield.pipelines.report.canvas import STYLE
from infield.pipelines.report.page import page
from infield.pipelines.run.console import progress, say, table
from infield.pipelines.run.options import check_at_least
from infield.posterior.cm21.features import Compression, lightcone_features
from infield.posterior.models.parameter_inference import (
    ParameterBox,
    ParameterCalibration,
    check_installed,
    fit_posterior,
)

MIN_SIMULATIONS = 40
"""Simulations with which anything can be learned."""

RANKED = 500
"""Draws behind a rank."""

UNEVEN = 1e-3
"""Probability of simulated parameters under the uniform law below which a warning is given that they do not follow
it."""


def run(arguments: argparse.Namespace) -> int:
    check_at_least(2, draws=arguments.draws)
    check_at_least(0, seed=arguments.seed)
    check_at_least(1, components=arguments.components)
    if not 0.05 <= arguments.hold_out <= 0.8:
        raise InfieldError(where="--hold-out", found=arguments.hold_out, expected="a fraction of 0.05 to 0.8")
    check_installed()
    check_new(arguments.output, arguments.overwrite)
    if arguments.report is not None:
        check_new_report(arguments.report, arguments.overwrite)
    names = ("components", "chunk", "seed", "report", "overwrite")
    settings: dict[str, Any] = {name: getattr(arguments, name) for name in names}
    settings |= {"samples": arguments.draws, "held_out": arguments.hold_out}
    wanted = members_of(arguments.lightcones, arguments.cone, "--cone")
    simulations = members_of(arguments.simulations, None, "--simulations")
    facts = infer_parameters(wanted, simulations, arguments.output, quiet=arguments.json, **settings)
    if arguments.json:
        print(to_json(facts))
        return 0
    for warning in facts["warnings"]:
        say(f"infield infer-parameters: {warning}")
    rows = {name: value for name, value, _ in [*_judged(facts), *_found(facts)]}
    table(str(arguments.output), rows)
    return 0


@dataclass(frozen=True)
class Simulated:
    """Simulations split into those to learn from and those to judge with: numbers of cones, and their box.

    Arguments:
        box: The prior.
        parameters: Of all cones of the file, `(cones, parameters)`.
        train, held_out: Numbers of cones.
        fixed: Parameters that are the same in all cones.
    """

    box: ParameterBox
    parameters: Tensor
    train: Tensor
    held_out: Tensor
    fixed: dict[str, float]


def infer_parameters(
    wanted: Members,
    simulations: Members,
    output: Path,
    *,
    samples: int = 1000,
    held_out: float = 0.2,
    components: int = 8,
    chunk: int | None = None,
    seed: int = 0,
    report: Path | None = None,
    overwrite: bool = False,
    quiet: bool = False,
) -> dict[str, Any]:
    """The command as a function; returns facts in plain JSON types.

    Raises:
        InfieldError: Whatever of the input the user can mend.
    """
    start = time.perf_counter()
    check_same_grid(simulations, wanted)
    nx, _, depth = simulations.cones.grid.shape
    cells = min(nx, depth) if chunk is None else chunk
    if not 4 <= cells <= depth:
        raise InfieldError(where="--chunk", found=f"{cells} cells", expected=f"4 to {depth}, the depth of the cones")
    same = wanted.path.resolve() == simulations.path.resolve()
    split = _split(simulations, set(wanted.numbers) if same else set(), held_out, seed)
    with progress(quiet=quiet) as bar:
        kinds = [_kinds(members, cells, bar) for members in (simulations, wanted)]
        task = bar.add_task("posterior", total=1)
        compression = Compression.of(_rows(kinds[0], split.train), components)
        posterior = fit_posterior(
            split.parameters[split.train], compression(_rows(kinds[0], split.train)), split.box, seed
        )
        judged = posterior.draw(compression(_rows(kinds[0], split.held_out)), RANKED, seed + 1)
        draws = posterior.draw(compression(kinds[1]), samples, seed + 2)
        bar.advance(task)
    truth_held_out = split.parameters[split.held_out]
    calibration = ParameterCalibration.of(judged, truth_held_out, split.box, Generator().manual_seed(seed))
    usual = compression.distance(_rows(kinds[0], split.held_out))
    distance = compression.distance(kinds[1])
    truth = _truth(wanted, split.box)
    facts: dict[str, Any] = {
        "output": str(output),
        "simulations": {"file": simulations.path.name, "trained": len(split.train), "held_out": len(split.held_out)},
        "prior": {name: [low, high] for name, low, high in _edges(split.box)},
        "fixed": split.fixed,
        "components": compression.axes.shape[1],
        "variance_kept": compression.explained,
        "cells_of_a_chunk": cells,
        "epochs": list(posterior.epochs),
        "calibration": _calibration(calibration, split.box),
        "cones": [
            _cone(wanted.numbers[i], draws[i], truth[i], split.box, float(distance[i]), usual)
            for i in range(len(draws))
        ],
        "samples": samples,
        "seed": seed,
    }
    facts["warnings"] = _warnings(facts, calibration, wanted, split)
    facts["seconds"] = time.perf_counter() - start
    dataset = _dataset(wanted, split, draws, truth, calibration, distance, usual)
    summary = {name: facts[name] for name in ("calibration", "seed", "samples", "components", "warnings")}
    files = {"simulations": simulations.path.name, "lightcones": wanted.path.name}
    names = {"parameters": list(split.box.names), "draws": RANKED}
    write_parameters(output, dataset, {**names, **files, **summary}, overwrite=overwrite)
    if report is not None:
        with matplotlib.rc_context(STYLE):
            pictures = parameter_pictures(
                split.box, list(wanted.numbers), draws, truth, judged, truth_held_out, calibration
            )
        subtitle = f"{wanted.path.name}, learned from {simulations.path.name}"
        tables = {"Cones": _found(facts), "How right it is": _judged(facts)}
        title = "Astrophysical parameters of lightcones"
        write_page(report, page(title, subtitle, facts["warnings"], [_reading(facts)], pictures, tables))
    return facts


def _split(simulations: Members, without: set[int], share: float, seed: int) -> Simulated:
    """What varies among the simulations, its box, and a random split of the cones."""
    path, cones = simulations.path, simulations.cones
    if not cones.parameters:
        raise InfieldError(where=path, found="no parameters", expected="one variable for each, along the cones")
    for name, column in cones.parameters.items():
        if not np.isfinite(column).all():
            raise InfieldError(where=path, found=f"NaN or infinity in {name}", expected="the parameter of every cone")
    numbers = [i for i in simulations.numbers if i not in without]
    if len(numbers) < MIN_SIMULATIONS:
        raise InfieldError(
            where=path,
            found=f"{len(numbers)} cones to learn from",
            expected=f"at least {MIN_SIMULATIONS}, better some hundred",
        )
    values = {name: np.asarray(v, float)[numbers] for name, v in cones.parameters.items()}
    varying = [name for name, v in values.items() if v.max() > v.min()]
    if not varying:
        raise InfieldError(
            where=path, found=f"{', '.join(values)} the same in all cones", expected="parameters that vary"
        )
    edges = [_range(cones.provenance.get("ranges", {}).get(name), values[name]) for name in varying]
    box = ParameterBox(tuple(varying), *torch.tensor(edges, dtype=torch.float64).T)
    order = torch.tensor(numbers)[torch.randperm(len(numbers), generator=Generator().manual_seed(seed))]
    count = max(1, round(share * len(numbers)))
    parameters = torch.tensor(np.stack([cones.parameters[name] for name in varying], 1), dtype=torch.float64)
    fixed = {name: float(v[0]) for name, v in values.items() if name not in varying}
    return Simulated(box, parameters, order[count:], order[:count], fixed)


def _range(stored: Any, values: np.ndarray) -> tuple[float, float]:
    """The range that a file states if the values keep to it; else their extremes, a little wider as these are."""
    low, high = float(values.min()), float(values.max())
    if isinstance(stored, list) and len(stored) == 2 and stored[0] <= low and high <= stored[1]:
        return float(stored[0]), float(stored[1])
    margin = (high - low) / (len(values) - 1)
    return low - margin, high + margin


def _kinds(members: Members, cells: int, bar: Any) -> tuple[Tensor, ...]:
    """Features of all members."""
    task = bar.add_task(members.path.name, total=len(members.numbers))
    edges = torch.tensor([-1e3, 1e3], dtype=torch.float64)  # the law of the voxels is not used
    return lightcone_features(members.summary(cells, edges, lambda n: bar.advance(task, n)), cells)


def _rows(kinds: tuple[Tensor, ...], rows: Tensor) -> tuple[Tensor, ...]:
    return tuple(kind[rows] for kind in kinds)


def _truth(wanted: Members, box: ParameterBox) -> Tensor:
    """Stored parameters of the cones, `(cones, parameters)`, NaN where they are not stored."""
    nowhere = np.full(wanted.cones.samples, np.nan)
    columns = [np.asarray(wanted.cones.parameters.get(name, nowhere), float) for name in box.names]
    return torch.tensor(np.stack(columns, 1)[wanted.numbers], dtype=torch.float64)


def _edges(box: ParameterBox) -> Sequence[tuple[str, float, float]]:
    return list(zip(box.names, box.low.tolist(), box.high.tolist(), strict=True))


def _calibration(calibration: ParameterCalibration, box: ParameterBox) -> dict[str, Any]:
    columns = {
        "p_value": calibration.p_values,
        "coverage_90": calibration.coverage_90,
        "contraction": calibration.contraction,
        "rms_z": calibration.rms_z,
    }
    found: dict[str, Any] = {
        name: {key: float(values[j]) for key, values in columns.items()} for j, name in enumerate(box.names)
    }
    cases = len(calibration.ranks)
    expected = [float(stats.binom.ppf(q, cases, 0.9) / cases) for q in (0.005, 0.995)]
    return {
        "parameters": found,
        "joint_p_value": calibration.joint_p_value,
        "cases": cases,
        "coverage_90_expected": expected,
    }


def _cone(
    number: int, draws: Tensor, truth: Tensor, box: ParameterBox, distance: float, usual: Tensor
) -> dict[str, Any]:
    """What is found of one cone."""
    low, median, high = torch.quantile(draws, torch.tensor([0.05, 0.5, 0.95], dtype=draws.dtype), dim=0)
    found = {}
    for j, name in enumerate(box.names):
        found[name] = {
            "mean": float(draws[:, j].mean()),
            "std": float(draws[:, j].std()),
            "median": float(median[j]),
            "interval_90": [float(low[j]), float(high[j])],
            "truth": float(truth[j]) if torch.isfinite(truth[j]) else None,
        }
    return {
        "cone": number,
        "parameters": found,
        "distance": distance,
        "usual_distance": float(usual.median()),
        "outside": bool(distance > usual.max()),
    }


def _warnings(facts: dict[str, Any], calibration: ParameterCalibration, wanted: Members, split: Simulated) -> list[str]:
    """What forbids to take the posterior at its word."""
    found = []
    outside = [str(cone["cone"]) for cone in facts["cones"] if cone["outside"]]
    if outside:
        found.append(
            f"The summaries of {len(outside)} of {len(facts['cones'])} cones (number {', '.join(outside[:8])}"
            f"{', ...' if len(outside) > 8 else ''}) are farther from those simulated than any held-out simulation's: "
            "the simulator with parameters in the box hardly makes such cones, and their posteriors mean little."
        )
    if calibration.is_miscalibrated:
        found.append("The ranks of the held-out simulations are not uniform: the posterior is not calibrated.")
    if len(split.held_out) < 50:
        found.append(f"{len(split.held_out)} simulations are held out: so few detect gross errors of calibration only.")
    unit = split.box.unit(split.parameters[torch.cat([split.train, split.held_out])])
    for j, name in enumerate(split.box.names):
        if stats.kstest(unit[:, j].numpy(), "uniform").pvalue < UNEVEN:
            found.append(
                f"{name} is not spread evenly over its range among the simulations: the prior is their spread, not the "
                "uniform one."
            )
    for name, value in split.fixed.items():
        stored = wanted.cones.parameters.get(name)
        if stored is not None and not np.allclose(stored[wanted.numbers], value):
            found.append(f"{name} is {value:g} in all simulations, and another value is stored with the cones.")
    for j, name in enumerate(split.box.names):
        inside = split.box.unit(_truth(wanted, split.box))[:, j]
        if ((inside < 0) | (inside > 1)).any():
            found.append(f"The stored {name} of some cones is outside of the range of the simulations.")
    return found


def _judged(facts: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Rows on calibration."""
    judged, sizes = facts["calibration"], facts["simulations"]
    low, high = judged["coverage_90_expected"]
    rows = [("simulations", f"{sizes['trained']} learned from, {sizes['held_out']} held out", sizes["file"])]
    for name, values in judged["parameters"].items():
        rows.append((f"{name}, ranks uniform", f"p = {values['p_value']:.3f}", "Kolmogorov-Smirnov"))
        share = f"{values['coverage_90']:.1%}"
        rows.append((f"{name}, coverage of 90 %", share, f"{low:.0%} to {high:.0%} in 99 of 100 cases where right"))
        rows.append((f"{name}, contraction", f"{values['contraction']:.1%}", "of the prior variance, on average"))
    rows.append(("all parameters, ranks uniform", f"p = {judged['joint_p_value']:.3f}", "TARP"))
    return rows


def _found(facts: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Rows on the cones, at most twenty of them."""
    rows = []
    for cone in facts["cones"][:20]:
        for name, values in cone["parameters"].items():
            low, high = values["interval_90"]
            text = f"{values['mean']:.4g} ± {values['std']:.2g}"
            if values["truth"] is not None:
                text += f" (stored: {values['truth']:.4g})"
            rows.append((f"cone {cone['cone']}, {name}", text, f"90 % of the draws in {low:.4g} to {high:.4g}"))
    return rows


def _reading(facts: dict[str, Any]) -> str:
    return (
        "Each draw is one set of parameters with which the simulator could have made the cone, under a prior that is "
        "uniform over the range of the simulations. Held-out simulations test that on average over the "
        f"range; the summaries were compressed into {facts['components']} numbers, so that the posterior is wider than "
        "that of the whole cone. Cones are taken as they are, without an instrument or its noise."
    )


def _dataset(
    wanted: Members,
    split: Simulated,
    draws: Tensor,
    truth: Tensor,
    calibration: ParameterCalibration,
    distance: Tensor,
    usual: Tensor,
) -> xr.Dataset:
    """The variables of the file."""
    found: dict[str, Any] = {}
    for j, (name, low, high) in enumerate(_edges(split.box)):
        units, words = PARAMETERS.get(name, ("1", f"21cmFAST parameter {name}"))
        attributes: dict[str, Any] = {"units": units, "long_name": words}
        found[name] = (("cone", "draw"), draws[..., j].numpy(), {**attributes, "prior_low": low, "prior_high": high})
        found[f"{name}_truth"] = ("cone", truth[:, j].numpy(), {**attributes, "long_name": f"{words}, stored"})
        found[f"{name}_held_out"] = ("held_out", split.parameters[split.held_out, j].numpy(), attributes)
        rank = {"units": "1", "long_name": f"rank of {name}_held_out among its draws"}
        found[f"{name}_rank"] = ("held_out", calibration.ranks[:, j].numpy(), rank)
    far = {"units": "1", "long_name": "from the nearest simulation, standard deviations of summaries"}
    found["distance"] = ("cone", distance.numpy(), far)
    found["distance_held_out"] = ("held_out", usual.numpy(), far)
    numbers = {"cone": np.array(wanted.numbers), "held_out": split.held_out.numpy()}
    return xr.Dataset(found, coords=numbers)
