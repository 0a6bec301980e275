"""Posteriors in one step of fields: complex slices of heads, inpainted, deblurred, and from k-space of one coil.

Truths are synthetic brains of 64 x 64 points that no training has seen, each measured by an operator of its own from
the family that the shipped model was trained for, with noise of 0, 0.01 and 0.05 in each part (an image is about 1
where it is bright). Rows of one measurement:

* `snap`, or `null-flow` where data are exact: one evaluation a draw;
* `source`: the same without the network, the Gaussian posterior that it starts from;
* `dps`: deepinv's, 1000 steps, on a flow prior of the same slices whose network has the same size; four draws of the
  first truth, which take it more than a minute.

Calibration ratio over all truths: variance of the draws over the squared error of their mean, less what the number of
draws adds to it; 1 is right.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from infield.core.grid import Grid
from infield.core.randomness import Randomness, SampleStreams
from infield.datasets.mri.brains import BrainPhantom
from infield.datasets.mri.operator_family import UndersampledKspace
from infield.datasets.training.operator_families import Deblurring, Inpainting, OperatorFamily
from infield.physics.measurement import Measurement
from infield.physics.noise.gaussian import GaussianNoise
from infield.pipelines.bench.deepinv_peers import dps
from infield.pipelines.bench.records import Bench
from infield.pipelines.package_data import CHECKPOINTS
from infield.pipelines.run.console import progress
from infield.posterior.diagnostics.calibration import coverage, ranks, variance_and_error
from infield.posterior.inference.one_step import check_one_step
from infield.posterior.interop.deepinv import UnitRange, WhitenedProblem
from infield.posterior.samplers.base import Draws, Sampler
from infield.posterior.samplers.null_flow import NullFlow
from infield.posterior.samplers.snap import SNaP
from infield.priors.amortised.average_velocity import AverageVelocity, load_average_velocity
from infield.priors.storage.checkpoint import load_flow_prior

POINTS, FIELD_OF_VIEW = 64, 240.0
NOISES, CHANNELS = (0.0, 0.01, 0.05), ("real", "imag")
FEW_DRAWS = 4
"""Draws of most truths."""

DPS_WEIGHT = 300.0
"""Of DPS's guidance: the best of 10, 30, 100 and 300 for k-space, inpainting and deblurring of another truth."""

NOISELESS_STD = 1e-6
"""The noise of exact data in a measurement file: a noise model needs a variance."""

METRICS = {
    "calibration": ".3f",
    "inside_90": ".3f",
    "psnr_of_mean": ".2f",
    "psnr_of_draw": ".2f",
    "first_psnr_of_mean": ".2f",
    "first_psnr_of_four": ".2f",
    "misfit": ".1e",
    "evaluations": ".0f",
    "seconds_a_draw": ".4f",
}


@dataclass(frozen=True)
class Task:
    """One kind of measurement and the model for it.

    Arguments:
        family: Draws its operators.
        model: File name of the checkpoint.
    """

    family: OperatorFamily
    model: str

    @property
    def path(self) -> Path:
        return CHECKPOINTS / self.model


TASKS = {
    "inpainting": Task(Inpainting((0.2, 0.5)), "one_step_inpainting.ckpt"),
    "deblurring": Task(Deblurring((1.0, 2.0)), "one_step_deblurring.ckpt"),
    "mri 4x": Task(UndersampledKspace("random", (4.0,)), "one_step_mri.ckpt"),
    "mri 8x": Task(UndersampledKspace("random", (8.0,)), "one_step_mri.ckpt"),
}
PRIOR = CHECKPOINTS / "brain_64.ckpt"


class Source(SNaP):
    """The law that a step starts from."""

    def draw(self, prior: Any, measurement: Measurement, n: int, generator: Randomness) -> Draws:
        problem = check_one_step(self.method, prior, measurement, exact=False)
        return Draws(problem.source(n, generator, noise=problem.noise)[0])


@dataclass
class Score:
    """How right the draws of some measurements are; sums over these.

    Arguments:
        bench: Where it goes.
        row: Under which name.
    """

    bench: Bench
    row: str
    variance: float = 0.0
    error: float = 0.0
    ranks: list[Tensor] = field(default_factory=list)

    def add(self, case: int, draws: Tensor, measurement: Measurement, seconds: float, calls: float) -> None:
        """The draws of one truth, shape `(n, 2, y, x)`, what they took together, and evaluations each."""
        assert measurement.truth is not None
        truth, n = measurement.truth[0], len(draws)
        variance, error = variance_and_error(draws, truth)
        self.variance, self.error = self.variance + variance, self.error + error
        if n > FEW_DRAWS:
            self.ranks.append(ranks(draws, truth))
        means = (("psnr_of_mean", draws if n > FEW_DRAWS else draws[:0]), ("psnr_of_four", draws[:4]))
        for metric, some in (*means, ("psnr_of_draw", draws[:1])):
            if not len(some):
                continue
            value = psnr(some.mean(0, keepdim=True), truth)
            self.bench.add(f"{case}", self.row, metric, value, "dB")
            if case == 0:
                self.bench.add("0", self.row, f"first_{metric}", value, "dB")
        misfit = measurement.residual(draws).abs().max() / measurement.y.abs().max()
        self.bench.add(f"{case}", self.row, "misfit", float(misfit))
        self.bench.add(f"{case}", self.row, "evaluations", calls)
        self.bench.add(f"{case}", self.row, "seconds_a_draw", seconds / n, "s")

    def write(self, draws: int, generator: Generator) -> None:
        """What is only known of many truths."""
        if self.variance > 1e-9 * self.error:
            self.bench.add("0", self.row, "calibration", self.variance / self.error)
            if self.ranks:
                inside = coverage(torch.stack(self.ranks), draws, 0.9, generator)
                self.bench.add("0", self.row, "inside_90", inside)


def add_fields(bench: Bench, *, truths: int, drawn: int, draws: int, dps_steps: int, seed: int) -> None:
    """Rows of every task and noise.

    Arguments:
        bench: Where they go.
        truths: Measurements of each; squared errors differ so much from head to head that a ratio of sums needs many.
        drawn: The first of them, which get all draws; the others get a few, of which V and B are as little biased.
        draws: Of each of these.
        dps_steps: Of DPS.
        seed: Of truths, operators, noise and draws.
    """
    grid = Grid.regular((POINTS, POINTS), (FIELD_OF_VIEW, FIELD_OF_VIEW), names=("y", "x"), units="mm", periodic=True)
    images = BrainPhantom().draw(grid, SampleStreams(4000 + seed, range(truths)).normal)
    fields = torch.stack([images.real, images.imag], dim=1)
    every = [(name, noise) for name in TASKS for noise in NOISES]
    with progress() as bar:
        for name, noise in bar.track(every, description="fields"):
            generator = Generator().manual_seed(1000 * seed + 7)
            cases = [measure(x[None], TASKS[name].family, grid, noise, generator) for x in fields]
            model, title = load_average_velocity(TASKS[name].path), f"{name}, noise {noise:g}"
            invertible = name == "deblurring" and not noise
            if not invertible:
                sampler: Sampler = SNaP() if noise else NullFlow()
                _add_draws(bench, f"{title}: {sampler.method}", sampler, model, cases, drawn, draws, seed)
            else:
                _add_inverse(bench, f"{title}: pseudo-inverse", cases[:drawn])
            if noise:
                _add_draws(bench, f"{title}: (its source)", Source(), model, cases, drawn, draws, seed)
            _add_dps(bench, f"{title}: dps", cases[0], min(draws, FEW_DRAWS), dps_steps, seed)


def measure(truth: Tensor, family: OperatorFamily, grid: Grid, noise: float, generator: Generator) -> Measurement:
    """A field `(1, 2, y, x)` through an operator of the family, with noise."""
    operator = family.draw(grid, 2, generator)
    clean = operator.A(truth)
    observed = getattr(operator, "observed", None)
    seen = torch.ones_like(clean) if observed is None else observed.to(clean)
    y = clean + noise * seen * torch.randn(clean.shape, generator=generator, dtype=clean.dtype)
    law = GaussianNoise(torch.tensor((noise or NOISELESS_STD) ** 2, dtype=torch.float64))
    return Measurement(y=y, operator=operator, noise=law, grid=grid, channels=CHANNELS, truth=truth)


def psnr(x: Tensor, truth: Tensor) -> float:
    """Of complex images: the largest magnitude of the truth over the root mean square error, in dB."""
    peak = truth.square().sum(0).max()
    return float(10 * torch.log10(peak / (x - truth).square().sum(1).mean()))


def _add_draws(
    bench: Bench,
    row: str,
    sampler: Sampler,
    model: AverageVelocity,
    cases: list[Measurement],
    drawn: int,
    draws: int,
    seed: int,
) -> None:
    score = Score(bench, row)
    for case, measurement in enumerate(cases):
        n = draws if case < drawn else min(draws, FEW_DRAWS)
        posterior = sampler(model, measurement, n, SampleStreams(seed, range(n)))
        score.add(case, posterior.samples, measurement, posterior.cost["seconds"], posterior.cost["velocity_calls"])
    score.write(draws, Generator().manual_seed(seed))


def _add_inverse(bench: Bench, row: str, cases: list[Measurement]) -> None:
    """A^+ y, all that NullFlow is where nothing is left open."""
    score = Score(bench, row)
    for case, measurement in enumerate(cases):
        start = time.perf_counter()
        x = measurement.operator.A_dagger(measurement.y)  # type: ignore[operator]
        score.add(case, x.expand(2, *x.shape[1:]), measurement, 2 * (time.perf_counter() - start), 0.0)


def _add_dps(bench: Bench, row: str, measurement: Measurement, draws: int, steps: int, seed: int) -> None:
    score = Score(bench, row)
    problem = UnitRange(WhitenedProblem(load_flow_prior(PRIOR).on(measurement.grid), measurement))
    start = time.perf_counter()
    x = problem.fields(dps(problem, draws, seed + 1, steps, weight=DPS_WEIGHT))
    calls = problem.calls(draws)["velocity_calls"]  # and as many vector-Jacobian products
    score.add(0, x, measurement, time.perf_counter() - start, calls)
