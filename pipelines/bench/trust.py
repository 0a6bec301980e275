"""Do the tools that judge posteriors find what is wrong, and leave alone what is right?

`faults`: draws of a known posterior on 12 x 12 points, 64 simulations of 32 draws, standard deviations 0.8 and 1.25
times the right ones, or a shift of 0.3 pointwise standard deviations of one sign, and without any fault.
`around`: simulations around observed data (posterior SBC) of the exact sampler, with these left out, or used twice.
`prior`: a Gaussian prior of twice the length of the truths', by truths of that prior, by fields of the right one
(calibrate), and by the data alone (check). `flow`: the same of a flow whose training was stopped after 40 steps, by
`faps` with 20 levels, functions on [0, 1), every sixth of 128 values measured.
`check`: files of 192 data, right or with noise 1.5 times the stated.
`light`: what `--help` imports, and the time of a reconstruction of 1,000 points over `import torch`.
"""

from __future__ import annotations

import argparse
import math
import resource
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from torch import Generator

from infield.core.grid import Grid
from infield.datasets.formats.measurement import write_measurement
from infield.physics.measurement import Measurement
from infield.physics.noise.gaussian import GaussianNoise
from infield.physics.operators.registry import build_operator
from infield.pipelines.bench.kept import Kept
from infield.pipelines.bench.records import Bench, Record
from infield.pipelines.run.check import checked
from infield.pipelines.run.console import progress
from infield.posterior.calibration.assessment import Assessment, Simulation, assess
from infield.posterior.calibration.exchange import ALARM
from infield.posterior.calibration.functionals import predeclared
from infield.posterior.calibration.places import groups_of_places
from infield.posterior.calibration.synthetic import SyntheticPosterior
from infield.posterior.calibration.truths import draw_from_prior, simulated, with_data_of
from infield.posterior.samplers.base import Sampler
from infield.posterior.samplers.exact import Exact
from infield.posterior.samplers.faps import FAPS
from infield.priors.base import FlowPrior
from infield.priors.gaussian.kernels import Matern
from infield.priors.gaussian.prior import GaussianPrior, gaussian_prior
from infield.priors.storage.checkpoint import load_flow_prior

PARTS = ("faults", "around", "prior", "flow", "check", "light")
METRICS = {"found": ".3f", "alarms": ".3f", "trusted": ".3f"}
METHOD_NOTE = "found, alarms: fraction of repetitions in which a fault was found."

REPETITIONS, SIMULATIONS, DRAWS = 200, 64, 32
FAULTS: dict[str, dict[str, float]] = {
    "sd x 0.8": {"width": 0.8},
    "sd x 1.25": {"width": 1.25},
    "shift of 0.3 sd": {"shift": 0.3},
    "right": {},
}
FEW = 10
"""Repetitions of a whole calibration."""

FEW_FLOWS, STOPPED_AFTER = 5, 40
"""Repetitions with a flow, and steps of its training, a hundredth of those of the shipped one."""

NOISE = 0.05
"""Variance of the noise."""


def chosen(arguments: argparse.Namespace) -> tuple[ModuleType, dict[str, Any]]:
    return sys.modules[__name__], {"parts": arguments.parts, "keep": arguments.keep}


def run(*, quick: bool = False, seed: int = 0, parts: list[str] | None = None, keep: Path | None = None) -> Bench:
    """All parts; when quick, a tenth of the repetitions, and `flow` only by its name: it trains one."""
    torch.set_num_threads(1)
    kept = Kept(keep)
    bench = Bench("trust", seed)
    every = {"faults": _faults, "around": _around, "prior": _prior, "flow": _flow, "check": _check}
    parts = parts or [part for part in PARTS if not (quick and part == "flow")]
    with progress() as bar:
        for part in bar.track(parts, description="trust"):
            if part == "light":
                _light(bench)
            else:
                every[part](bench, seed, kept, 10 if quick else 1)
    return bench


def _add(
    bench: Bench, case: str, method: str, metric: str, value: float, target: str, met: bool, unit: str = "1"
) -> None:
    bench.records.append(Record(bench.name, case, method, metric, value, unit, target, met))


def _faults(bench: Bench, seed: int, kept: Kept, less: int) -> None:
    posterior, repetitions = SyntheticPosterior.of_points(), REPETITIONS // less
    for number, (name, fault) in enumerate(FAULTS.items()):

        def alarm(i: int, number: int = number, fault: dict[str, float] = fault) -> bool:
            generator = Generator().manual_seed(100_000 * seed + 1000 * number + i)
            fields = posterior.draw(SIMULATIONS, DRAWS, generator, **fault)
            return posterior.judge(fields, generator, exchanges=999).p < ALARM

        share = kept.share(f"seed {seed} fault {name}", repetitions, alarm)
        if fault:
            _add(bench, name, "calibrate", "found", share, "at least 0.95", share >= 0.95)
        else:
            _add(bench, name, "calibrate", "alarms", share, "at most 0.02", share <= 0.02)


def _calibrated(
    prior: FlowPrior,
    measurement: Measurement,
    source: str,
    seed: int,
    *,
    uses: int = 1,
    of: GaussianPrior | None = None,
    sampler: Sampler | None = None,
    simulations: int = 40,
) -> Assessment:
    """Verdict on the exact sampler or another one, by simulations of 24 draws."""
    found, sampler = [], sampler or Exact()
    for s in range(simulations):
        generator = Generator().manual_seed(1000 * seed + s)
        field = None if of is None else draw_from_prior(of, 1, generator)
        case, replicate = simulated(source, prior, sampler, measurement, generator, generator, field=field, uses=uses)
        draws = sampler(prior, case, 24, generator).samples
        assert replicate.truth is not None
        fields = torch.cat([replicate.truth, draws])
        data = [replicate, measurement] if source == "posterior" else [replicate]
        found.append(Simulation(fields[0], draws, torch.stack([one.log_likelihood(fields) for one in data], 1)))
    names = [f"data {i}" for i in range(found[0].misfits.shape[1])]
    functionals, places = predeclared(measurement.grid, ("field",)), groups_of_places(measurement)
    return assess(found.__getitem__, len(found), functionals, places, source, misfits=names, seed=seed, power=False)


def _prior_of(points: int, length: float) -> GaussianPrior:
    return gaussian_prior(Matern(nu=1.5, length=length), Grid.regular((points, points)))


def _measurement(prior: GaussianPrior, points: int, seed: int, share: float, noise: float = 1.0) -> Measurement:
    """Values of a draw of a prior at a share of the points, with noise so many times the stated."""
    grid = Grid.regular((points, points))
    mask = (torch.rand((points, points), generator=Generator().manual_seed(0)) < share).numpy()
    operator = build_operator({"name": "mask", "arrays": {"mask": "mask"}}, {"mask": mask}, grid, 1)
    generator, zero = Generator().manual_seed(seed), torch.zeros((1, 1, points, points), dtype=torch.float64)
    stated = GaussianNoise(torch.tensor(NOISE, dtype=torch.float64))
    real = Measurement(y=zero, operator=operator, noise=GaussianNoise(stated.variance * noise**2), grid=grid)
    return replace(with_data_of(real, draw_from_prior(prior, 1, generator), generator), noise=stated)


def _around(bench: Bench, seed: int, kept: Kept, less: int) -> None:
    prior, repetitions = _prior_of(8, 0.3), max(FEW // less, 1)
    for uses, name in ((1, "exact"), (0, "observed data left out"), (2, "observed data used twice")):

        def alarm(i: int, uses: int = uses) -> bool:
            measurement = _measurement(prior, 8, 100 * seed + i, 0.4)
            return not _calibrated(prior, measurement, "posterior", 10 * seed + i, uses=uses).right

        share = kept.share(f"seed {seed} around {name}", repetitions, alarm)
        if uses == 1:
            _add(bench, name, "calibrate --truths posterior", "alarms", share, "flat: at most 0.1", share <= 0.1)
        else:
            _add(bench, name, "calibrate --truths posterior", "found", share, "at least 0.9", share >= 0.9)


def _prior(bench: Bench, seed: int, kept: Kept, less: int) -> None:
    right, wrong, repetitions = _prior_of(8, 0.3), _prior_of(8, 0.6), max(FEW // less, 1)
    more, first = (_prior_of(16, 0.3), _prior_of(16, 0.6)), 100 * seed

    def by_prior(i: int) -> bool:
        return not _calibrated(wrong, _measurement(right, 8, first + i, 0.4), "prior", first + i).right

    def by_fields(i: int) -> bool:
        return not _calibrated(wrong, _measurement(right, 8, first + i, 0.4), "file", first + i, of=right).right

    def by_data(i: int) -> bool:
        return checked(Exact(), more[1], _measurement(more[0], 16, first + i, 0.75), 99, first + i).trusted == 0

    methods: dict[str, Callable[[int], bool]] = {
        "calibrate --truths prior": by_prior,
        "calibrate --truths FILE": by_fields,
        "check": by_data,
    }
    for method, found in methods.items():
        share = kept.share(f"seed {seed} length {method}", repetitions, found)
        case = "prior of twice the length"
        if method.endswith("prior"):
            _add(bench, case, method, "found", share, "invisible: at most 0.1", share <= 0.1)
        else:
            _add(bench, case, method, "found", share, "at least 0.9", share >= 0.9)


def _flow(bench: Bench, seed: int, kept: Kept, less: int) -> None:
    """One flow, stopped early; `FEW_FLOWS` calibrations of 20 simulations and as many files for `check`."""
    from infield.pipelines.bench.learned_regression import POINTS, closed_form, point_measurement, train

    sensors, sampler, repetitions = torch.arange(0, POINTS, 6), FAPS(levels=20), 1 if less > 1 else FEW_FLOWS
    with tempfile.TemporaryDirectory() as folder:
        flow = load_flow_prior(train("matern", Path(folder), seed=seed, steps=STOPPED_AFTER))
    right = closed_form("matern", flow, POINTS)

    def file(i: int) -> Measurement:
        blank = point_measurement(torch.zeros(len(sensors), dtype=torch.float64), sensors, POINTS, "1")
        generator = Generator().manual_seed(1000 * seed + i)
        return with_data_of(blank, draw_from_prior(right, 1, generator), generator)

    def by_truths(source: str, i: int) -> bool:
        of = right if source == "file" else None
        return not _calibrated(flow, file(i), source, i, of=of, sampler=sampler, simulations=20).right

    methods: dict[str, Callable[[int], bool]] = {
        "calibrate --truths prior": partial(by_truths, "prior"),
        "calibrate --truths FILE": partial(by_truths, "file"),
        "check": lambda i: checked(sampler, flow, file(i), 99, i).trusted == 0,
    }
    for method, found in methods.items():
        share, case = kept.share(f"seed {seed} flow {method}", repetitions, found), "flow stopped early"
        if method.endswith("prior"):
            _add(bench, case, method, "found", share, "invisible: at most 0.1", share <= 0.1)
        else:
            _add(bench, case, method, "found", share, "at least 0.9", share >= 0.9)


def _check(bench: Bench, seed: int, kept: Kept, less: int) -> None:
    prior = _prior_of(16, 0.3)
    right, faulty = max(40 // less, 2), max(20 // less, 2)

    def trusted_of(i: int, noise: float = 1.0) -> float:
        trusted = checked(Exact(), prior, _measurement(prior, 16, 500 * seed + i, 0.75, noise), 99, i % 100).trusted
        return math.nan if isinstance(trusted, str) else float(trusted)

    verdicts = [kept.number(f"seed {seed} check right {i}", partial(trusted_of, i)) for i in range(right)]
    alarms, trusted = sum(v == 0 for v in verdicts), sum(v == 1 for v in verdicts) / right
    _add(
        bench, f"{right} right files", "check", "false_alarms", float(alarms), "at most 2 of 40", alarms <= 0.05 * right
    )
    _add(bench, f"{right} right files", "check", "trusted", trusted, "at least 0.9", trusted >= 0.9)
    share = kept.share(f"seed {seed} check noise", faulty, lambda i: trusted_of(100 + i, 1.5) == 0)
    _add(bench, "noise off by 1.5", "check", "found", share, "at least 0.9", share >= 0.9)


HELP = """
import sys, io, contextlib
from infield.pipelines.cli import main
with contextlib.redirect_stdout(io.StringIO()):
    main({words})
print(int("torch" in sys.modules))
"""


def _light(bench: Bench) -> None:
    for words in (["--help"], ["reconstruct", "--help"]):
        printed = subprocess.run(
            [sys.executable, "-c", HELP.format(words=words)], capture_output=True, text=True, check=True
        )
        torch_too = printed.stdout.strip().endswith("1")
        _add(bench, f"infield {' '.join(words)}", "imports torch", "torch", float(torch_too), "no torch", not torch_too)
    with tempfile.TemporaryDirectory() as folder:
        grid = Grid.regular((1000,))
        mask = np.arange(1000) % 4 == 0
        operator = build_operator({"name": "mask", "arrays": {"mask": "mask"}}, {"mask": mask}, grid, 1)
        prior, generator = gaussian_prior(Matern(nu=1.5, length=0.1), grid), Generator().manual_seed(0)
        zero = torch.zeros((1, 1, 1000), dtype=torch.float64)
        description = {"name": "mask", "arrays": {"mask": "mask"}}
        noise, arrays = GaussianNoise(torch.tensor(NOISE)), {"mask": mask}
        blank = Measurement(y=zero, operator=operator, noise=noise, grid=grid, description=description, arrays=arrays)
        path = Path(folder)
        write_measurement(path / "m.zarr", with_data_of(blank, draw_from_prior(prior, 1, generator), generator))
        (path / "p.yaml").write_text("{prior: gaussian, law: {law: matern, nu: 1.5, length: 0.1}}", encoding="utf-8")
        words = ["reconstruct", f"{path / 'm.zarr'}", "-o", f"{path / 'p.zarr'}", "--prior", f"{path / 'p.yaml'}",
                 "--quiet"]  # fmt: skip
        whole = _cpu(f"from infield.pipelines.cli import main\nassert main({words}) == 0")
        seconds = whole - _cpu("import torch")
    _add(
        bench,
        "reconstruct of 1,000 points",
        "over import torch",
        "cpu_seconds",
        seconds,
        "at most 2",
        seconds <= 2,
        "s",
    )


def _cpu(program: str) -> float:
    """CPU seconds of a Python process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", program], check=True, capture_output=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
