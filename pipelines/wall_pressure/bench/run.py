"""Wall pressure on 16 pi half heights, from 0.25 % sensors and priors of patches that saw 4 pi only.

The truth is the SYNTHETIC stand-in for wall pressure (`priors.wall_pressure.synthetic.synthetic`), whose spectrum and
covariance are known exactly, at Re_tau 180, 500 and 1000, on a plane of 16 pi x 4/3 pi half heights with spacings dx+
17.67, dz+ 11.78; sensors on 0.25 % of its points, drawn at random, with noise of 0.1 in rho u_tau^2 (the r.m.s. is 1.6
to 2.5). Priors are those of `pipelines/checkpoints/wall_pressure_*.md`: trained at Re_tau 180, and fine-tuned from that
on 500 planes of Re_tau 500 or 1000, all of 4 pi. Beside them: linear interpolation between the sensors, kriging with
the true covariance (its mean, and draws: the best that second moments allow), and draws of the priors alone.

*Spectral error*: octaves of k_x and of k_z from the first wavenumber of the long domain to Nyquist (`wall_spectra`),
mean energy of the draws over that of the law, in dB, the largest in absolute value over: `low x`, the octaves of k_x
below the first wavenumber of the short domain, which no training field holds (modes 1 to 3); `x`, the other ones of
k_x; `z`, all of k_z.

*Known*: the largest over the octaves that a prior or the sensors determine. A prior of the same Re_tau determines all
of them: from the first wavenumber of the short domain on it has seen them, and below it continues the density. A prior
of another Re_tau those in which the two laws, in wall units, differ by at most 1 dB; none from 180 to 500, where
they differ by 1.8 to 4.7 dB. Sensors determine those in which the mean of kriging holds at least half of the energy. An
octave counts if either is true.

*Scale from sensors*: a prior of another Re_tau is multiplied by one number, so that its variance is that of the
readings less their noise. What it determines are then the octaves in which the laws, brought to one variance, agree.

*Without inner scaling*: lengths in half heights in place of wall units, so that a patch and a spacing of Re_tau 180 are
500 / 180 times as long in wall units at Re_tau 500; draws come to the fine grid by their Fourier series, and what the
coarser one cannot hold is added to the sensors' noise, with its true variance.

*Growth*: `reconstruct --tiles` on domains 1 to 64 times as large, peak memory of the process, and the slope
d log(seconds) / d log(points) between the last two; then the same run on one and on two Dask workers (meaningful on an
idle machine only).

In full about fifteen minutes of one idle core.
"""

from __future__ import annotations

import math
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from infield.core.randomness import SampleStreams
from infield.pipelines.bench.records import Bench
from infield.pipelines.package_data import CHECKPOINTS
from infield.pipelines.run.console import progress
from infield.pipelines.wall_pressure.bench.cases import (
    SHORT,
    Case,
    Drawn,
    Known,
    draws_alone,
    draws_in_half_heights,
    draws_of,
    in_half_heights,
    interpolation,
    scale_of_sensors,
    scaled,
)
from infield.pipelines.wall_pressure.bench.growth import add_growth, add_workers
from infield.posterior.diagnostics.calibration import coverage, crps, ranks
from infield.posterior.samplers.faps import FAPS
from infield.posterior.wall_pressure.wall_statistics import wall_moments
from infield.priors.flows.flow import LearnedFlow
from infield.priors.storage.checkpoint import load_flow_prior
from infield.priors.wall_pressure.synthetic import WallPressure

LENGTH = 16 * math.pi
BASE_RE_TAU = 180.0
ZERO_SHOT = {500.0: 180.0, 1000.0: 500.0}
"""Re_tau, and that of the prior which has not seen it."""

SAME_DB = 1.0
"""Where two laws agree."""

METRICS = {
    "low_x_db": ".2f",
    "x_db": ".2f",
    "z_db": ".2f",
    "known_db": ".2f",
    "crps": ".3f",
    "coverage_90": ".3f",
    "flatness": ".2f",
    "velocity_calls": ".0f",
    "seconds": ".1f",
}
GROWTH = {
    "run_seconds": ".1f",
    "core_seconds": ".1f",
    "peak_mib": ".0f",
    "memory_growth": ".1%",
    "slope": ".2f",
    "speedup": ".2f",
}
FIRST_METRICS = (GROWTH,)
SUMMARY = statistics.mean
METHOD_NOTE = (
    "Synthetic stand-in for wall pressure. Largest spectral error in dB over octaves of the law's exact spectrum: k_x "
    "below the short domain's first wavenumber (low x), other k_x, k_z, and those that can be known. 'law': as many "
    "independent draws of it, whose errors are chance. Rows 'kriging' and 'law' against the exact energy, ours and "
    "'prior alone' by common random numbers. CRPS in rho u_tau^2; seconds a draw, one thread; growth: seconds a run."
)


@dataclass(frozen=True)
class Size:
    """How much is run.

    Arguments:
        truths: Planes that are measured, by Re_tau.
        draws: Posterior draws of each, by Re_tau.
        prior_draws: Draws of the priors alone, by Re_tau.
        levels: Of FAPS.
        steps: Of the flow, for draws of the priors alone.
        length: Of the domain, in half heights.
        factors: Sizes of the growing domain over the first one.
        growth: Levels and samples of its runs.
        workers: Numbers of Dask workers; none to leave that out.
    """

    truths: dict[float, int]
    draws: dict[float, int]
    prior_draws: dict[float, int]
    levels: int = 8
    steps: int = 32
    length: float = LENGTH
    factors: tuple[int, ...] = (1, 4, 16, 64)
    growth: tuple[int, int] = (2, 4)
    workers: tuple[int, ...] = (1, 2)


FULL = Size(
    truths={180.0: 4, 500.0: 2, 1000.0: 1},
    draws={180.0: 8, 500.0: 4, 1000.0: 4},
    prior_draws={180.0: 8, 500.0: 2, 1000.0: 1},
)
QUICK = Size(
    truths={180.0: 1, 500.0: 1},
    draws={180.0: 2, 500.0: 2},
    prior_draws={180.0: 2, 500.0: 1},
    levels=2,
    steps=3,
    length=8 * math.pi,
    factors=(1,),
    growth=(1, 1),
    workers=(),
)


def run(*, quick: bool = False, seed: int = 0, size: Size | None = None, parts: Sequence[str] = ("all",)) -> Bench:
    """Posteriors at every Re_tau, the ablation, growth and workers.

    Arguments:
        quick: Two Re_tau, half of the length, hardly any draw, no workers: to check that it runs.
        seed: Of truths, sensors, noise and draws.
        size: How much.
        parts: Which of "posteriors", "growth", "workers"; "all" for all of them.
    """
    torch.set_num_threads(1)
    size = size or (QUICK if quick else FULL)
    bench = Bench("wall-pressure", seed)
    wanted = {"posteriors", "growth", "workers"} if "all" in parts else set(parts)
    with progress() as bar, tempfile.TemporaryDirectory() as scratch:
        if "posteriors" in wanted:
            for re_tau in bar.track(list(size.truths), description="posteriors"):
                _add_posteriors(bench, Case.make(re_tau, size.length, size.truths[re_tau], seed), size, seed)
        prior, folder = checkpoint(BASE_RE_TAU), Path(scratch)
        if "growth" in wanted:
            add_growth(bench, prior, folder, size.factors, *size.growth, seed)
        if "workers" in wanted and size.workers:
            add_workers(bench, prior, folder, size.factors[-1] // 4, *size.growth, seed, size.workers)
    return bench


def checkpoint(re_tau: float, *, outer: bool = False) -> Path:
    """The prior that was trained, or fine-tuned, at a Re_tau."""
    return CHECKPOINTS / f"wall_pressure_{re_tau:g}{'_outer' if outer else ''}.ckpt"


def _add_posteriors(bench: Bench, case: Case, size: Size, seed: int) -> None:
    """All rows of one Re_tau."""
    name, base = f"{case.re_tau:g}", case.re_tau == BASE_RE_TAU
    sampler, count, n = FAPS(levels=size.levels), len(case.truths), size.draws[case.re_tau]

    def add(row: str, drawn: Drawn, known: Known, paired: Tensor | None = None) -> None:
        _add(bench, case, f"{name} {row}", drawn, known, paired, seed)

    law = WallPressure(case.re_tau).draw(case.grid, SampleStreams(seed + 1, range(count * n)).normal)
    add("law", Drawn(law.unflatten(0, (count, n))), case.all)
    start = time.perf_counter()
    lines = torch.stack([interpolation(*pair) for pair in zip(case.sensors, case.measured, strict=True)])[:, None]
    add("interpolation", Drawn(lines, (time.perf_counter() - start) / count), case.sensed)
    add("kriging, mean", Drawn(case.means[:, None]), case.sensed)
    kriging = draws_of(sampler, case.kriging, case.measured, n, seed)
    add("kriging", kriging, case.all)

    prior = load_flow_prior(checkpoint(case.re_tau))
    add("prior alone", *_alone(prior.on(case.grid), case, size, seed))
    own = draws_of(sampler, prior.on(case.grid), case.measured, n, seed)
    add("ours" if base else "ours, fine-tuned", own, case.all, kriging.planes)
    if base:
        return
    source = ZERO_SHOT[case.re_tau]
    _add_zero_shot(bench, case, load_flow_prior(checkpoint(source)), source, kriging, size, seed)


def _add_zero_shot(
    bench: Bench, case: Case, prior: LearnedFlow, source: float, kriging: Drawn, size: Size, seed: int
) -> None:
    """Rows of a prior of another Re_tau; where there are some without inner scaling, these, and that before its
    scale."""
    sampler, name, n = FAPS(levels=size.levels), f"{case.re_tau:g}", size.draws[case.re_tau]
    ablation = checkpoint(case.re_tau, outer=True)
    other = WallPressure(source).spectrum(case.grid)
    scales = {"": 1.0} if ablation.is_file() else {}
    for words, scale in {**scales, ", scale from sensors": scale_of_sensors(prior, case)}.items():
        gain = 1.0 if scale == 1.0 else float(case.octaves.variances.mean() / other.mean())
        same = case.octaves.against(gain * other)
        known = {axis: case.sensed[axis] | (error.abs() <= SAME_DB) for axis, error in same.items()}
        drawn = draws_of(sampler, scaled(prior, scale).on(case.grid), case.measured, n, seed)
        _add(bench, case, f"{name} ours, zero-shot from {source:g}{words}", drawn, known, kriging.planes, seed)
    if not ablation.is_file():
        return
    for words, outer in (("zero-shot", in_half_heights(prior, case.re_tau)), ("fine-tuned", load_flow_prior(ablation))):
        drawn = draws_in_half_heights(sampler, outer, case, n, seed)
        _add(bench, case, f"{name} {words}, no inner scaling", drawn, case.all, None, seed)


def _alone(prior: LearnedFlow, case: Case, size: Size, seed: int) -> tuple[Drawn, Known, Tensor]:
    drawn, paired = draws_alone(prior, case, size.prior_draws[case.re_tau], size.steps, seed)
    return drawn, case.all, paired


def _add(bench: Bench, case: Case, row: str, drawn: Drawn, known: Known, paired: Tensor | None, seed: int) -> None:
    """All figures of a method at one Re_tau.

    Arguments:
        known: Octaves that it determines.
        paired: See `Octaves.errors`.
    """
    name, planes, n = f"{case.re_tau:g}", drawn.planes, drawn.planes.shape[1]
    errors = case.octaves.errors(planes.flatten(0, 1), None if paired is None else paired.flatten(0, -3))
    for axis, error in errors.items():
        for i, value in enumerate(error.tolist()):
            bench.add(name, row, f"{axis}_db_{2**i}", value, "dB")
            bench.add(name, row, f"{axis}_known_{2**i}", float(known[axis][i]))
    low = round(math.log2(case.grid.shape[1] * case.grid.spacing[1] / (SHORT * case.re_tau)))
    figures = {"low_x_db": errors["x"][:low], "x_db": errors["x"][low:], "z_db": errors["z"]}
    figures["known_db"] = torch.cat([error[known[axis]] for axis, error in errors.items()])
    for metric, some in figures.items():
        if len(some):
            bench.add(name, row, metric, float(some.abs().max()), "dB")
    pairs = list(zip(planes, case.truths, strict=True))
    if n > 1:
        generator = torch.Generator().manual_seed(seed)
        inside = [coverage(ranks(some, truth), n, 0.9, generator) for some, truth in pairs]
        bench.add(name, row, "coverage_90", statistics.mean(inside))
        moments = wall_moments(planes.flatten(0, 1))
        bench.add(name, row, "flatness", float(moments.flatness.mean()))
        bench.add(name, row, "skewness", float(moments.skewness.mean()))
    scores = [crps(some, truth) if n > 1 else float((some[0] - truth).abs().mean()) for some, truth in pairs]
    bench.add(name, row, "crps", statistics.mean(scores), "rho u_tau^2")
    bench.add(name, row, "velocity_calls", drawn.velocity_calls)
    if drawn.seconds:
        bench.add(name, row, "seconds", drawn.seconds, "s")
