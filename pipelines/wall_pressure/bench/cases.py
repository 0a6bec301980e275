"""The measurements of bench wall-pressure, and the draws of each of its methods."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.interpolate import LinearNDInterpolator
from torch import Generator, Tensor

from infield.core.grid import Axis, Grid
from infield.core.randomness import SampleStreams
from infield.datasets.wall_pressure.sensors import WallSensors
from infield.physics.measurement import Measurement
from infield.physics.wall_pressure.wall_units import wall_grid
from infield.pipelines.wall_pressure.bench.spectra import Octaves, finer
from infield.posterior.samplers.exact import posterior_mean
from infield.posterior.samplers.faps import FAPS
from infield.priors.base import FlowPrior, flow
from infield.priors.flows.flow import LearnedFlow
from infield.priors.gaussian.prior import GaussianPrior, gaussian_prior
from infield.priors.wall_pressure.synthetic import WallPressure

SHORT = 4 * math.pi
"""Length of the training domain in half heights."""

SHARE, NOISE_STD = 0.0025, 0.1
"""Of the points that have a sensor; of a sensor's noise, in rho u_tau^2."""

SENSED = 0.5
"""Share of an octave's energy in the mean of kriging from which on it counts as measured by the sensors."""

BLOCK = 4
"""Planes that are drawn together."""

Known = dict[str, Tensor]
"""Which octaves can be known, by axis."""


@dataclass(frozen=True)
class Drawn:
    """Planes `(truths, draws, z, x)` in rho u_tau^2, and what a draw cost; 0 seconds if not measured."""

    planes: Tensor
    seconds: float = 0.0
    velocity_calls: float = 0.0


@dataclass(frozen=True)
class Case:
    """Measurements at one Re_tau.

    Arguments:
        re_tau: Friction Reynolds number.
        octaves: The grid, and the exact spectrum on it.
        truths: Shape `(truths, z, x)`.
        sensors, measured: One for each truth.
        kriging: The Gaussian prior with the law's covariance.
        means: Of kriging, shape of `truths`.
    """

    re_tau: float
    octaves: Octaves
    truths: Tensor
    sensors: list[WallSensors]
    measured: list[Measurement]
    kriging: GaussianPrior
    means: Tensor

    @classmethod
    def make(cls, re_tau: float, length: float, truths: int, seed: int) -> Case:
        """Draw truths, sensors and noise; the domain is so many half heights long."""
        law, grid = WallPressure(re_tau), wall_grid(re_tau, length)
        kriging = gaussian_prior(law, grid)
        planes = law.draw(grid, SampleStreams(seed, range(truths)).normal)
        seeds = [1000 * seed + i for i in range(truths)]
        sensors = [WallSensors.random(grid, SHARE, s) for s in seeds]
        measured = [one.measure(p, NOISE_STD, s) for one, p, s in zip(sensors, planes, seeds, strict=True)]
        means = torch.cat([posterior_mean(kriging, m) for m in measured])
        return cls(re_tau, Octaves(grid, law.spectrum(grid)), planes, sensors, measured, kriging, means)

    @property
    def grid(self) -> Grid:
        return self.octaves.grid

    @property
    def sensed(self) -> Known:
        """Octaves that the sensors measure."""
        return {name: 10 ** (error / 10) >= SENSED for name, error in self.octaves.errors(self.means).items()}

    @property
    def all(self) -> Known:
        """All octaves."""
        return {name: torch.ones_like(known) for name, known in self.sensed.items()}


def draws_of(sampler: FAPS, prior: FlowPrior, measured: Sequence[Measurement], n: int, seed: int) -> Drawn:
    """Posterior draws of each measurement; with one seed all priors on one grid get the same random numbers."""
    planes, cost = [], []
    for i, measurement in enumerate(measured):
        for numbers in torch.arange(n).split(BLOCK):
            streams = SampleStreams(1000 * seed + i, numbers.tolist())
            posterior = sampler(prior, measurement, len(numbers), streams)
            planes.append(posterior.samples[:, 0])
            cost.append(posterior.cost)
    seconds = sum(c["seconds"] for c in cost) / (len(measured) * n)
    return Drawn(torch.cat(planes).unflatten(0, (len(measured), n)), seconds, cost[0]["velocity_calls"])


def draws_alone(prior: FlowPrior, case: Case, n: int, steps: int, seed: int) -> tuple[Drawn, Tensor]:
    """Draws of a prior, the same for all truths, and Gaussian planes `(n, z, x)` of the law's exact spectrum from the
    same source fields."""
    start, source = time.perf_counter(), prior.source.sample(n, Generator().manual_seed(seed))
    with torch.no_grad():
        fields = torch.cat([flow(prior, some, steps) for some in source.split(BLOCK)])
    planes = prior.standardisation.to_units(fields)[:, 0].expand(len(case.truths), -1, -1, -1)
    drawn = Drawn(planes, (time.perf_counter() - start) / n, steps)
    modes, to_law = prior.source.modes, (case.kriging.covariance.diagonal / prior.source.diagonal).sqrt()
    return drawn, modes.synthesise(to_law * modes.analyse(source))[:, 0]


def interpolation(sensors: WallSensors, measurement: Measurement) -> Tensor:
    """Linear interpolation between sensors at grid points and their periodic images, `(z, x)`."""
    shape, spacing = np.array(sensors.grid.shape), np.array(sensors.grid.spacing)
    places = np.stack(np.unravel_index(sensors.array, sensors.grid.shape), axis=1)
    images = [places + shape * (i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    values = np.tile(measurement.y.flatten().numpy(), len(images))
    everywhere = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), axis=-1)
    found = LinearNDInterpolator(np.concatenate(images) * spacing, values)(everywhere * spacing)
    return torch.from_numpy(found)


def scale_of_sensors(prior: LearnedFlow, case: Case) -> float:
    """By what a prior is to be multiplied so that its variance is that of the readings of all truths, less their
    noise."""
    readings = torch.cat([measurement.y.flatten() for measurement in case.measured])
    variance = prior.standardisation.scale.square().mean() * prior.covariance.diagonal.mean()
    return float(((readings.square().mean() - NOISE_STD**2) / variance).sqrt())


def scaled(prior: LearnedFlow, scale: float) -> LearnedFlow:
    """The same prior of fields so many times as large."""
    units = prior.standardisation
    return replace(prior, standardisation=replace(units, shift=scale * units.shift, scale=scale * units.scale))


def in_half_heights(prior: LearnedFlow, re_tau: float) -> LearnedFlow:
    """The same prior at another Re_tau, its lengths kept in half heights and not in wall units."""
    ratio, description = re_tau / prior.provenance["data"]["Re_tau"], prior.grid_description
    axes = [{**axis, "coordinates": [ratio * c for c in axis["coordinates"]]} for axis in description["axes"]]
    return replace(prior, grid_description={**description, "axes": axes})


def draws_in_half_heights(sampler: FAPS, prior: LearnedFlow, case: Case, n: int, seed: int) -> Drawn:
    """Posterior draws of a prior of wider spacings: on a grid that has them, and from there on the case's own."""
    wide = Grid.from_json(prior.grid_description).spacing
    grid = _with_spacings(case.grid, wide)
    waves = [torch.fft.fftfreq(size, 1 / size).abs() for size in case.grid.shape]
    unseen = (waves[0][:, None] >= grid.shape[0] // 2) | (waves[1] >= grid.shape[1] // 2)
    noise = math.sqrt(NOISE_STD**2 + float(case.octaves.variances[unseen].sum()) / case.grid.size)
    measured = []
    for sensors, fine in zip(case.sensors, case.measured, strict=True):
        places = np.stack(np.unravel_index(sensors.array, case.grid.shape), axis=1) * np.array(case.grid.spacing)
        measured.append(WallSensors.at(grid, places).readings(fine.y.flatten(), noise))
    drawn = draws_of(sampler, prior.on(grid), measured, n, seed)
    rows, columns = case.grid.shape
    return replace(drawn, planes=finer(drawn.planes.flatten(0, 1), (rows, columns)).unflatten(0, (-1, n)))


def _with_spacings(grid: Grid, spacings: Sequence[float]) -> Grid:
    """The same periodic domain with about these spacings, and an even number of points."""
    axes = []
    for axis, spacing in zip(grid.axes, spacings, strict=True):
        length = axis.size * axis.spacing
        count = 2 * round(length / spacing / 2)
        axes.append(Axis(axis.name, tuple(length / count * i for i in range(count)), axis.units, periodic=True))
    return Grid(tuple(axes))
