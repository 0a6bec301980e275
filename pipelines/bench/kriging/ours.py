"""The default workflow of a user: a measurement file, `infield reconstruct` without a prior, the map."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray
from scipy.interpolate import RegularGridInterpolator

from infield.pipelines.bench.kriging.fields import Problem
from infield.pipelines.bench.kriging.measurements import Layout, write
from infield.pipelines.bench.kriging.oracle import Law
from infield.pipelines.bench.kriging.peers import Answer
from infield.pipelines.bench.kriging.processes import Limits, Outcome, of_ours

Array = NDArray[np.float64]

MAP = ("--samples", "0", "--no-validation")
"""Mean and standard deviation alone, without draws and cross-validation."""

ORDERS = {0.5: "matern-1/2", 1.5: "matern-3/2", 2.5: "matern-5/2"}


@dataclass(frozen=True)
class Posterior(Answer):
    """Contents of a posterior file.

    Arguments:
        attributes: Of the file.
    """

    attributes: dict[str, Any] | None = None

    @property
    def trusted(self) -> str:
        """Its attribute `trusted`: 1, 0 or unchecked; "none" where the file has none."""
        return str((self.attributes or {}).get("trusted", "none"))


def reconstruct(
    problem: Problem,
    limits: Limits,
    *options: str,
    layout: Layout | None = None,
    in_process: bool = False,
    draws: bool = False,
) -> Outcome:
    """Write the measurement, reconstruct it in a process of its own (or in this one), and read the map.

    Arguments:
        problem: Data and grid; its order, if it is given, is that of a built-in prior.
        limits: Of the process.
        options: Of `reconstruct`.
        layout: Of the file.
        in_process: Run here, without costs; hyperparameters are plugged in by default.
        draws: Whether to read the samples as well.
    """
    layout = layout or Layout()
    measurement, posterior = limits.folder / "measurement.zarr", limits.folder / "posterior.zarr"
    for path in (measurement, posterior):
        shutil.rmtree(path, ignore_errors=True)
    limits.folder.mkdir(parents=True, exist_ok=True)
    write(measurement, problem, layout)
    prior = [] if problem.order is None else ["--prior", ORDERS[problem.order]]
    arguments = ["reconstruct", str(measurement), "-o", str(posterior), "--json", "--workers", "1", *prior, *options]
    if in_process and "--hyper" not in options:
        arguments += ["--hyper", "plug-in"]
    outcome = _here(arguments) if in_process else of_ours(arguments, limits)
    if outcome.refused is not None:
        return Outcome(refused=outcome.refused.replace(str(limits.folder) + "/", ""))
    return Outcome(_read(problem, layout, posterior, draws), outcome.cost)


def _here(arguments: list[str]) -> Outcome:
    from infield.pipelines.cli import main

    printed, started = io.StringIO(), time.process_time()
    status: int | str | None
    with contextlib.redirect_stderr(printed), contextlib.redirect_stdout(io.StringIO()):
        try:
            status = main(arguments)
        except SystemExit as left:  # argparse's way
            status = left.code
    if status:
        lines = [line for line in printed.getvalue().splitlines() if line.strip()]
        return Outcome(refused=lines[-1][:200] if lines else f"exit status {status}")
    return Outcome(cost={"cpu_seconds": time.process_time() - started})


def _read(problem: Problem, layout: Layout, path: Any, draws: bool) -> Posterior:
    with xr.open_zarr(path, consolidated=False) as file:
        mean, sd = (np.asarray(file[name].transpose(*layout.names), dtype=float) for name in ("mean", "std"))
        attributes = dict(file.attrs)
        samples = None
        if draws:
            samples = np.asarray(file["samples"].transpose("sample", *layout.names), dtype=float)
            samples = samples.reshape(len(samples), -1)
    parts = [mean.reshape(-1)], [sd.reshape(-1)]
    if problem.held_out is not None:
        for part, of_grid in zip(parts, (mean, sd), strict=True):
            between = RegularGridInterpolator(problem.axes, of_grid, bounds_error=False, fill_value=None)
            part.append(between(problem.held_out[0]))
    whole_mean, whole_sd = (np.concatenate(part) for part in parts)
    return Posterior(whole_mean, whole_sd, noise_found(attributes), samples, attributes)


def find_attribute(attributes: Mapping[str, Any], name: str) -> Any:
    """The first value of this name in a file's attributes, at any depth of its JSON; None where there is none."""
    for key, value in attributes.items():
        if key == name:
            return value
        if isinstance(value, str) and value.startswith("{"):
            value = json.loads(value)
        if isinstance(value, Mapping) and (found := find_attribute(value, name)) is not None:
            return found
    return None


def noise_found(attributes: Mapping[str, Any]) -> float | None:
    """The noise level that a posterior file reports."""
    found = find_attribute(attributes, "noise_sd")
    return None if found is None else float(found)


def noise_log_error(attributes: Mapping[str, Any]) -> float | None:
    """The standard error of the log of that level: half of that of its variance."""
    error = (find_attribute(attributes, "log_errors") or {}).get("noise")
    return None if error is None else 0.5 * float(error)


def law_found(attributes: Mapping[str, Any]) -> Law | None:
    """The law that was fitted, where a posterior file reports one along the axes."""
    lengths, nu, variance = (find_attribute(attributes, name) for name in ("lengths", "nu", "variance"))
    if lengths is None or nu is None or variance is None or find_attribute(attributes, "azimuth_degrees") is not None:
        return None
    return Law(float(nu), np.diag([1 / float(l["length"]) for l in lengths.values()]), float(variance) ** 0.5)
