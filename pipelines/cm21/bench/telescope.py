"""A lightcone through a telescope: posteriors with the learned prior beside Wiener filtering with the true spectrum.

Truths are members of the reference ensembles, at parameters that the prior's training has not seen and that both
methods are given. A segment of each is observed by an SKA-Low-like array for 1000 hours, without a wedge cut. Rows:

* `faps`: the learned prior (`posterior.samplers.faps`), temperatures with exact zeros;
* `wiener`: the Gaussian with the mean of each slice and the power spectrum of the other members of the reference; its
  mean is the Wiener filter, its draws its posterior, both exact.

Figures: normalised cross-correlation of the posterior mean with the truth, r(k) = P_xy / (P_x P_y)^(1/2), in spherical
bins; the share of voxels within the 90 % interval of the draws, where a truth that is tied with draws (exact zeros) is
ranked among them at random; and the error of the mean over the spread of the truth. A bin counts where the signal to
noise, the mean over its modes of signal over noise power (0 for a mode that is not measured), exceeds 0.3.
"""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Generator, Tensor

from infield.core.grid import Grid
from infield.core.randomness import SampleStreams
from infield.datasets.cm21.observation import Observation, ObservedField
from infield.physics.cm21.telescopes import TELESCOPES
from infield.physics.measurement import Measurement
from infield.physics.noise.gaussian import GaussianNoise
from infield.pipelines.bench.records import Bench
from infield.pipelines.run.console import progress
from infield.posterior.cm21.cone_statistics import SpectrumBins
from infield.posterior.cm21.sampler import LightconeSampler
from infield.posterior.diagnostics.calibration import coverage, ranks
from infield.posterior.samplers.base import Sampler
from infield.posterior.samplers.faps import FAPS
from infield.priors.base import FlowPrior, Standardisation
from infield.priors.covariance.base import Covariance
from infield.priors.covariance.modes import Hartley
from infield.priors.gaussian.prior import GaussianPrior
from infield.priors.training.flow_matching import stationary_covariance

if TYPE_CHECKING:
    from infield.pipelines.cm21.bench.cases import Case
    from infield.pipelines.cm21.bench.setting import Setting

CELLS, HOURS, TELESCOPE = 64, 1000.0, "ska-low-like"
TRUTHS, DRAWS, SAMPLES_PER_BATCH, LEVELS = 1, 64, 16, 10
"""Members of each reference that are observed, draws of each posterior, of so many together, and levels of FAPS."""

MIN_SIGNAL_TO_NOISE = 0.3
"""Signal to noise of a bin of wavenumbers from which on it counts."""

OURS, WIENER = "faps", "wiener"


@dataclass(frozen=True)
class Seen:
    """A truth and its measurement.

    Arguments:
        name: Of the case.
        truth: mK, shape `(x, y, los)`.
        measurement: What the telescope saw.
        cells: Of the line of sight of the reference.
        others: The same stretch of the other members, `(members, x, y, los)` in mK.
    """

    name: str
    truth: Tensor
    measurement: Measurement
    cells: slice
    others: Tensor


def add_telescope(bench: Bench, setting: Setting, *, truths: int = TRUTHS, draws: int = DRAWS) -> None:
    """Posteriors of members of every reference, and their targets."""
    levels = 2 if setting.quick else LEVELS
    with progress() as bar:
        task = bar.add_task("posteriors", total=2 * truths * len(setting.cases))
        for case in setting.cases:
            for seen in _observed(case, truths):
                grid = seen.measurement.grid
                low = case.cells.start or 0
                flow = setting.prior.at(
                    case.point,
                    points=(grid.shape[0], grid.shape[1]),
                    cells=slice(low + seen.cells.start, low + seen.cells.stop),
                )
                ours = LightconeSampler(sampler=FAPS(levels=levels))
                _judge(bench, seen, OURS, ours, flow, draws, case.seed)
                bar.advance(task)
                _judge(bench, seen, WIENER, FAPS(), wiener_prior(seen.others), draws, case.seed)
                bar.advance(task)


def ahead(bench: Bench) -> float:
    """The least, over bins that count, of the mean over cases of our cross-correlation less Wiener's; NaN for none."""
    differences = []
    for number in range(CELLS):
        ours, wiener = (bench.over_cases(statistics.mean, method, f"correlation_{number}") for method in (OURS, WIENER))
        if not math.isnan(ours):
            differences.append(ours - wiener)
    return min(differences, default=math.nan)


def wiener_prior(cones: Tensor) -> GaussianPrior:
    """The Gaussian with the mean of each slice and the power spectrum of cones `(n, x, y, los)` in mK."""
    mean = cones.mean((0, 1, 2))
    x = (cones - mean)[:, None]
    white = Covariance.diagonal_in(Hartley(3), torch.ones(x.shape[1:], dtype=torch.float64))
    return gaussian_of(mean, stationary_covariance(x, white, (True, True, False)).diagonal)


def gaussian_of(mean: Tensor, variance: Tensor) -> GaussianPrior:
    """The Gaussian with the mean of each slice, `(los,)` in mK, and variances of Fourier modes, `(1, x, y, los)`."""
    unit = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    return GaussianPrior(
        name="Gaussian with the true mean and spectrum",
        source=Covariance.diagonal_in(Hartley(3), torch.ones_like(variance)),
        covariance=Covariance.diagonal_in(Hartley(3), variance),
        mean=torch.zeros_like(variance),
        standardisation=Standardisation(mean.expand(1, 1, 1, -1).clone(), unit),
        provenance={},
        units="mK",
    )


def cross_correlation(shells: SpectrumBins, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Wavenumbers in rad/Mpc and r(k) of two fields `(x, y, los)`, both of shape `(bins,)`."""
    powers = [shells.spherical(shells.power(field[None])) for field in (x, y, x + y)]
    (k, p), (_, q), (_, both) = powers
    return k, ((both - p - q) / (2 * (p * q).sqrt()))[0]


def signal_to_noise(shells: SpectrumBins, measurement: Measurement, truth: Tensor) -> Tensor:
    """Mean over the modes of each bin of signal over noise power, shape `(bins,)`."""
    assert isinstance(measurement.noise, GaussianNoise)
    nx, ny, depth = truth.shape
    signal = shells.power(truth[None])[0]
    volume = math.prod(n * d for n, d in zip(shells.shape, shells.spacing, strict=True))
    precision = measurement.operator.observed[0].double() / (2 * measurement.noise.variance[0])  # of both parts
    # Of a channel's modes the array has one of each pair; along the line of sight noise is white.
    full = torch.zeros(nx, ny, depth, dtype=torch.float64)
    full[:, : precision.shape[1]] += precision
    mirrored = full.roll((-1, -1), (0, 1)).flip((0, 1))
    full = torch.where(full > 0, full, mirrored).mean(-1, keepdim=True).expand(-1, -1, depth)
    # A visibility of the orthonormal transform has noise power N; P of its mode is then N times the volume of a cell.
    noise = full / (volume / (nx * ny * depth))
    _, k_cubed = shells.spherical(torch.ones_like(signal)[None])
    _, found = shells.spherical((signal * noise)[None])
    return (found / k_cubed)[0]


def half_ionised(zeros: Tensor) -> slice:
    """The stretch whose mean share of exact zeros is nearest to a half, of those that start at every eighth cell.

    Arguments:
        zeros: Shares of slices, shape `(los,)`.
    """
    depth = min(CELLS, len(zeros))
    shares = zeros.unfold(0, depth, 8).mean(-1)
    start = 8 * int((shares - 0.5).abs().argmin())
    return slice(start, start + depth)


def _observed(case: Case, truths: int) -> Iterator[Seen]:
    """Members of a reference through the telescope, where about half of the voxels are ionised if that is anywhere."""
    members, cones = case.members, case.members.cones
    every = members.block(0, len(members.numbers))
    cells = half_ionised((every == 0).double().mean((0, 1, 2)))
    observation = Observation(telescope=TELESCOPES[TELESCOPE](None), hours=HOURS)
    field = ObservedField(cones, range(cells.start, cells.stop), observation)
    for i in range(truths):
        truth = every[i, ..., cells]
        others = torch.cat([every[:i], every[i + 1 :]])[..., cells]
        yield Seen(f"{case.name}, cone {i}", truth, field.measure(truth, case.seed + 100 * i), cells, others)


def _judge(bench: Bench, seen: Seen, method: str, sampler: Sampler, prior: FlowPrior, draws: int, seed: int) -> None:
    start, samples, calls = time.process_time(), [], 0.0
    for low in range(0, draws, SAMPLES_PER_BATCH):
        numbers = range(low, min(low + SAMPLES_PER_BATCH, draws))
        posterior = sampler(prior, seen.measurement, len(numbers), SampleStreams(seed, numbers))
        samples.append(posterior.samples[:, 0])
        calls = posterior.cost["velocity_calls"]
    cones = torch.cat(samples)
    seconds = (time.process_time() - start) / draws
    mean, truth = cones.mean(0), seen.truth
    assert isinstance(seen.measurement.grid, Grid)
    (nx, ny, depth), (dx, dy, dz) = truth.shape, seen.measurement.grid.spacing
    shells = SpectrumBins((nx, ny, depth), (dx, dy, dz))
    k, r = cross_correlation(shells, mean, truth)
    bright = signal_to_noise(shells, seen.measurement, truth) > MIN_SIGNAL_TO_NOISE
    for number, (correlation, counts) in enumerate(zip(r.tolist(), bright.tolist(), strict=True)):
        if counts:
            bench.add(seen.name, method, f"correlation_{number}", correlation)
    bench.add(seen.name, method, "correlation", float(r[bright].mean()) if bright.any() else math.nan)
    bench.add(seen.name, method, "k_max", float(k[bright].max()) if bright.any() else math.nan, "rad/Mpc")
    generator = Generator().manual_seed(seed)
    rank = ranks(cones.flatten(1), truth.flatten(), ties=generator)
    bench.add(seen.name, method, "coverage_90", coverage(rank, draws, 0.9, generator))
    bench.add(seen.name, method, "error", float((mean - truth).square().mean().sqrt() / truth.std()))
    bench.add(seen.name, method, "zeros", float((cones == 0).double().mean()))
    bench.add(seen.name, method, "zeros_true", float((truth == 0).double().mean()))
    bench.add(seen.name, method, "posterior_calls", calls)
    bench.add(seen.name, method, "core_seconds_draw", seconds, "s")
    bench.add(seen.name, method, "chi_square", float(seen.measurement.chi_square(cones[:, None]).mean()))
