"""What a draw costs as the grid grows: nearly in proportion to N log N, or not?

A Matern field of length 0.1 on the unit square, whose sides are not periodic, on finer and finer grids; half of the
points measured. One draw of the source, and one of the posterior by the flow-consistent law on one level (exact for
this prior). The posterior's data are so many that conjugate gradients condition on them: their iterations count in its
seconds, and grow slowly with the grid because finer grids bring more data; seconds an operator call are what the
algebra costs.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Generator

from infield.core.grid import Grid
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import GaussianNoise
from infield.physics.operators.registry import build_operator
from infield.pipelines.bench.records import Bench
from infield.pipelines.run.console import progress
from infield.posterior.samplers.faps import FAPS
from infield.priors.gaussian.kernels import Matern
from infield.priors.gaussian.prior import GaussianPrior, gaussian_prior

SIDES, QUICK_SIDES = (64, 128, 256, 512), (64, 96, 128)
LAW, SOURCE = Matern(nu=1.5, length=0.1), Matern(nu=0.5, length=0.01)
OBSERVED, NOISE_VARIANCE = 0.5, 0.1

METHOD_NOTE = (
    "slope: d log(seconds) / d log(N log N) by least squares over the sides; about 1 is the aim. The posterior's "
    "seconds hold its conjugate-gradient iterations, whose number grows with the data; an operator call is one half of "
    "an iteration. Median seconds of repeated draws, one thread."
)

METRICS = {"seconds": ".4f", "velocity_calls": ".0f", "operator_calls": ".0f", "slope": ".2f"}


def run(*, quick: bool = False, seed: int = 0) -> Bench:
    """Sides of 64 to 512 points; to 128 when quick."""
    torch.set_num_threads(1)
    bench, sides = Bench("scaling", seed), QUICK_SIDES if quick else SIDES
    methods = ("source draw", "posterior draw", "operator call of it")
    seconds: dict[str, list[float]] = {method: [] for method in methods}
    with progress() as bar:
        for side in bar.track(sides, description="scaling"):
            for method, value in zip(methods, _costs_at(bench, side, Generator().manual_seed(seed)), strict=True):
                seconds[method].append(value)
    for method, values in seconds.items():
        bench.add("all", method, "slope", slope(sides, values))
    return bench


def _costs_at(bench: Bench, side: int, generator: Generator) -> tuple[float, float, float]:
    """Seconds of a source draw, of a posterior draw, and of one operator call of the latter."""
    prior = gaussian_prior(LAW, Grid.regular((side, side)), source=SOURCE)
    measurement, sampler = _half_of(prior, side, generator), FAPS(levels=1)
    case, repeats = f"{side} x {side}", max(3, 3 * 128 // side)
    source, _ = _timed(lambda: prior.standardisation.to_units(prior.source.sample(1, generator)), 5 * repeats)
    posterior, draws = _timed(lambda: sampler(prior, measurement, 1, generator), repeats)
    bench.add(case, f"source draw, {case}", "seconds", source, "s")
    bench.add(case, f"posterior draw, {case}", "seconds", posterior, "s")
    calls = {name: statistics.median(d.cost[name] for d in draws) for name in ("velocity_calls", "operator_calls")}
    for name, value in calls.items():
        bench.add(case, f"posterior draw, {case}", name, value)
    return source, posterior, posterior / calls["operator_calls"]


def slope(sides: tuple[int, ...], seconds: list[float]) -> float:
    """d log(seconds) / d log(N log N) with N = side^2, by least squares."""
    work = [math.log(side**2 * math.log(side**2)) for side in sides]
    return float(np.polyfit(work, np.log(seconds), 1)[0])


def _half_of(prior: GaussianPrior, side: int, generator: Generator) -> Measurement:
    truth = prior.standardisation.to_units(prior.covariance.sample(1, generator))
    description, grid = {"name": "mask", "arrays": {"mask": "seen"}}, Grid.regular((side, side))
    arrays = {"seen": (torch.rand((side, side), generator=generator) < OBSERVED).numpy()}
    operator = build_operator(description, arrays, grid, 1)
    noise = GaussianNoise(torch.tensor(NOISE_VARIANCE, dtype=torch.float64))
    y = noise.sample(operator.A(truth), generator)
    return Measurement(y=y, operator=operator, noise=noise, grid=grid, description=description, arrays=arrays)


def _timed(call: Callable[[], Any], repeats: int) -> tuple[float, list[Any]]:
    """Median seconds of a call, after one that is not counted, and what the calls returned."""
    call()
    seconds, returned = [], []
    for _ in range(repeats):
        start = time.perf_counter()
        returned.append(call())
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds), returned
