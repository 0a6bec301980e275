"""The measurement, prior, posterior and report of `infield demo`; its options are in `demo_options`."""

from __future__ import annotations

import argparse
import shutil
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from torch import Generator, Tensor

from infield.core.errors import InfieldError
from infield.core.grid import Grid
from infield.core.json_text import to_json
from infield.datasets.formats.measurement import open_measurement, write_measurement
from infield.datasets.formats.measurement_layout import VERSION
from infield.datasets.formats.zarr_group import open_group
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import GaussianNoise
from infield.physics.operators.registry import build_operator
from infield.pipelines.commands.reconstruct import reconstruct
from infield.pipelines.report import write_report
from infield.pipelines.report.figures import scores
from infield.pipelines.run.console import say
from infield.pipelines.run.options import check_at_least
from infield.pipelines.run.prior_choice import choose_prior
from infield.pipelines.run.samplers import make_sampler
from infield.priors.gaussian.kernels import Matern

POINTS, EXTENT, UNITS = 96, 1000.0, "K"
LAW, SCALE = Matern(nu=1.5, length=100.0, wrap=True), 2.0
"""The field: a Matern kernel in metres, times a standard deviation in K."""

SENSORS, NOISE_STD = 400, 0.3
LAKE_CENTRE, LAKE_RADIUS = (380.0, 620.0), 170.0
SAMPLES, SAMPLER = 64, ("faps", ["levels=20"])
"""One level is exact for a Gaussian prior; twenty show the annealing that learned priors need."""

MEASUREMENT, PRIOR, POSTERIOR, REPORT = "measurement.zarr", "prior.yaml", "posterior.zarr", "report.html"
MARK = "drawn by infield demo, seed "
"""History of the demo's measurement: it marks the demo's own folder."""


def run(arguments: argparse.Namespace) -> int:
    summary = demo(arguments.output, seed=arguments.seed, quiet=arguments.json or arguments.quiet)
    if arguments.json:
        print(to_json(summary))
    if arguments.json or arguments.quiet:
        return 0
    rows: list[tuple[str, str, str]] = [
        ("relative_l2", "error of the mean, relative to the truth", ".3f"),
        ("coverage_90", "truths inside the 90 % intervals", ".3f"),
        ("crps", f"CRPS ({UNITS})", ".3f"),
        ("chi_square", "data chi-square per datum", ".3f"),
        ("velocity_calls", "network evaluations a sample", ".0f"),
        ("seconds", "seconds", ".1f"),
    ]
    sheet = Table("", f"by {summary['posterior']['sampler']}", title=f"{SAMPLES} samples from {SENSORS} data")
    methods = ["posterior"] + (["exact"] if summary["exact"] else [])
    if summary["exact"]:
        sheet.add_column("exact posterior")
    for key, label, form in rows:
        sheet.add_row(label, *(format(summary[method][key], form) for method in methods))
    Console().print(sheet)
    say(f"{summary['report']} opens in a browser")
    return 0


def demo(folder: Path, *, seed: int = 0, quiet: bool = False) -> dict[str, Any]:
    """The command as a function.

    Arguments:
        folder: Gets `measurement.zarr`, `prior.yaml`, `posterior.zarr` and `report.html`; those of an earlier demo
            are replaced.
        seed: Seed of everything.
        quiet: Print nothing.

    Returns:
        The figures of the posterior, and under `exact` those of as many exact draws (None where the prior has no
        closed form).

    Raises:
        InfieldError: The folder holds files of these names that no demo wrote.
    """
    check_at_least(0, seed=seed)
    _claim(folder, seed)
    say(f"{SENSORS} sensors on a field of {POINTS} x {POINTS} points", quiet=quiet)
    write_measurement(
        folder / MEASUREMENT,
        measure(seed),
        overwrite=True,
        title=f"Temperature of a square kilometre at {SENSORS} scattered sensors",
        history=f"{MARK}{seed}",
        data_units=UNITS,
        dims={"data": ("sensor",), "sensors": ("sensor", "axis")},
    )
    prior = choose_demo_prior(folder)
    name, settings = SAMPLER
    summary = reconstruct(
        folder / MEASUREMENT,
        folder / POSTERIOR,
        prior=prior,
        sampler=make_sampler(name, settings),
        samples=SAMPLES,
        seed=seed,
        overwrite=True,
        quiet=quiet,
    )
    measurement = open_measurement(folder / MEASUREMENT)
    facts = write_report(folder / POSTERIOR, folder / REPORT, measurement, overwrite=True)
    exact = _exact(measurement, prior, seed)
    return {"posterior": {**facts, "seconds": summary["seconds"]}, "exact": exact, "report": str(folder / REPORT)}


def choose_demo_prior(folder: Path) -> str:
    """What `--prior` is given: the description of the law that the truth is drawn from, written beside the data."""
    law = f"{{law: matern, nu: {LAW.nu}, length: {LAW.length}, variance: {LAW.variance}, wrap: true}}"
    path = folder / PRIOR
    path.write_text(
        f"prior: gaussian\nname: Matern, order {LAW.nu}, length {LAW.length:g} m\nlaw: {law}  # length in m\n"
        f"scale: {SCALE}  # standard deviation of the field\nunits: {UNITS}\n",
        encoding="utf-8",
    )
    return str(path)


def _claim(folder: Path, seed: int) -> None:
    """Make sure that the folder is new or the demo's own, and that a run of another seed is not resumed."""
    names = (MEASUREMENT, PRIOR, POSTERIOR, f"{POSTERIOR}.partial", REPORT)
    found = [folder / name for name in names if (folder / name).exists()]
    if not found:
        return
    history = ""
    if found[0] == folder / MEASUREMENT:
        with open_group(found[0], "measurement", VERSION) as group:
            history = str(group.attrs.get("history", ""))
    if not history.startswith(MARK):
        raise InfieldError(
            where=found[0], found="something that no demo wrote", expected="a new folder", remedy="use another --output"
        )
    if history != f"{MARK}{seed}":
        shutil.rmtree(folder / f"{POSTERIOR}.partial", ignore_errors=True)


def measure(seed: int) -> Measurement:
    """Draw a truth and its data."""
    generator = Generator().manual_seed(seed)
    grid = Grid.regular((POINTS, POINTS), EXTENT, names=("north", "east"), units="m", periodic=True)
    truth = SCALE * LAW.covariance(grid).sample(1, generator)
    arrays = {"sensors": _places(generator).numpy()}
    description = {"name": "points", "arrays": {"coordinates": "sensors"}}
    operator, noise = build_operator(description, arrays, grid, 1), GaussianNoise(torch.tensor(NOISE_STD**2))
    return Measurement(
        y=noise.sample(operator.A(truth), generator),
        operator=operator,
        noise=noise,
        grid=grid,
        channels=("temperature anomaly",),
        units=UNITS,
        truth=truth,
        description=description,
        arrays=arrays,
    )


def _places(generator: Generator) -> Tensor:
    """Positions of the sensors, anywhere but on the lake, (sensors, 2) in m."""
    places = EXTENT * torch.rand((2 * SENSORS, 2), generator=generator, dtype=torch.float64)
    on_land = torch.from_numpy(np.hypot(*(places.numpy() - LAKE_CENTRE).T) > LAKE_RADIUS)
    return places[on_land][:SENSORS]


def _exact(measurement: Measurement, name: str, seed: int) -> dict[str, Any] | None:
    """The same figures of as many exact draws."""
    prior = choose_prior(name, measurement).prior
    if getattr(prior, "components", None) is None:
        return None
    start = time.perf_counter()
    posterior = make_sampler("exact")(prior, measurement, SAMPLES, Generator().manual_seed(seed))
    seconds = time.perf_counter() - start
    assert measurement.truth is not None
    figures = scores(posterior.samples.flatten(1), measurement.truth[0].flatten())
    return {**figures, "chi_square": posterior.diagnostics["chi_square"], **posterior.cost, "seconds": seconds}
