"""The numbers of a report: how the truth lies among the draws, how the draws meet the data; read block by block."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import xarray as xr
from scipy import stats
from torch import Generator, Tensor

from infield.datasets.formats.field import Field
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import GaussianNoiseModel
from infield.pipelines.report.data import View
from infield.posterior.diagnostics.calibration import coverage, crps, radial_spectrum, ranks, relative_l2

LEVELS = (0.5, 0.8, 0.9, 0.95)
CURVE = (0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
RANK_BINS = 13
RESIDUAL_EDGES = torch.linspace(-5, 5, 41, dtype=torch.float64)
SCORED = 50_000
"""Values of a field that are scored: all of them, or so many chosen at random."""


@dataclass(frozen=True)
class Draws:
    """The samples of a posterior file.

    Arguments:
        dataset: The open file.
        field: Its metadata of the field.
    """

    dataset: xr.Dataset
    field: Field

    @property
    def number(self) -> int:
        return self.dataset.sizes["sample"]

    @property
    def shape(self) -> tuple[int, ...]:
        """(channel, *space)."""
        return (len(self.field.channels), *self.field.grid.shape)

    @property
    def size(self) -> int:
        """Values of one sample."""
        return math.prod(self.shape)

    def blocks(self) -> Iterator[Tensor]:
        """The samples in order, float64, a few at a time: `(some, channel, *space)`."""
        step = int(self.dataset.attrs["block"])
        for start in range(0, self.number, step):
            yield self.rows(start, start + step)

    def rows(self, start: int, stop: int) -> Tensor:
        """Samples `start` to `stop`, without the last."""
        values = self.dataset["samples"][start:stop].values.astype(np.float64)
        return torch.from_numpy(values.reshape(-1, *self.shape))

    def at(self, index: Tensor) -> Tensor:
        """Some values of every sample: `(samples, values)`, for flat indices of the field."""
        return torch.cat([block.flatten(1)[:, index] for block in self.blocks()])

    def moment(self, name: str) -> Tensor:
        """`mean` or `std` of the file, `(channel, *space)`."""
        return torch.from_numpy(self.dataset[name].values.astype(np.float64).reshape(self.shape))


@dataclass(frozen=True)
class Calibration:
    """Ranks of the truth among n draws; and, as the measure of what chance does, of each draw among the n - 1 others.

    Neighbouring values of a field are not independent, so that the scatter of these figures in a single field is not
    binomial. A draw
    in the truth's place has the same correlations: where the posterior is right, the truth is one more draw.

    Arguments:
        n: Number of draws.
        truth: Ranks of the truth, `(values,)`.
        stand_ins: Ranks of each draw among the others, `(n, values)`; of none where there is a single draw.
    """

    n: int
    truth: Tensor
    stand_ins: Tensor

    @classmethod
    def of(cls, draws: Tensor, truth: Tensor) -> Calibration:
        """From draws `(n, values)` and the truth `(values,)`."""
        n = len(draws)
        others = [ranks(draws[torch.arange(n) != i], draws[i]) for i in range(n if n > 1 else 0)]
        return cls(n, ranks(draws, truth), torch.stack(others) if others else torch.empty((0, len(truth))))

    def histograms(self, generator: Generator) -> tuple[Tensor, Tensor]:
        """Density of places among the draws, in `RANK_BINS` bins of 0 ... 1: truth `(bins,)`, stand-ins `(n, bins)`."""

        def density(rank: Tensor, among: int) -> Tensor:
            place = (rank + torch.rand(rank.shape, generator=generator, dtype=torch.float64)) / (among + 1)
            return torch.histogram(place, RANK_BINS, range=(0.0, 1.0), density=True).hist

        others = [density(rank, self.n - 1) for rank in self.stand_ins]
        return density(self.truth, self.n), torch.stack(others) if others else torch.empty((0, RANK_BINS))

    def coverages(self, level: float, generator: Generator) -> tuple[float, Tensor]:
        """Share of values inside the central interval of a level: of the truth, and of the stand-ins `(n,)`."""
        others = [coverage(rank, self.n - 1, level, generator) for rank in self.stand_ins]
        return coverage(self.truth, self.n, level, generator), torch.tensor(others, dtype=torch.float64)


def band(values: Tensor, low: float, high: float) -> tuple[Tensor, Tensor]:
    """Where 99 % of further ones lie, from what stand-ins `(n, ...)` give (Student's law), cut to `low` ... `high`."""
    mean, reach = values.mean(0), float(stats.t.ppf(0.995, len(values) - 1)) * values.std(0)
    return (mean - reach).clamp(low, high), (mean + reach).clamp(low, high)


def scores(draws: Tensor, truth: Tensor, calibration: Calibration | None = None) -> dict[str, Any]:
    """relative_l2 of the mean, crps, coverage with its band: of draws `(n, values)` beside the truth `(values,)`."""
    generator = Generator().manual_seed(0)
    calibration = calibration or Calibration.of(draws, truth)
    figures: dict[str, Any] = {"relative_l2": relative_l2(draws.mean(0), truth), "scored_values": len(truth)}
    if len(draws) > 1:
        figures["crps"] = crps(draws, truth)
    for level in LEVELS:
        share, others = calibration.coverages(level, generator)
        name = f"coverage_{100 * level:.0f}"
        figures[name] = share
        if len(others) > 2:
            figures[f"{name}_expected"] = [float(edge) for edge in band(others, 0, 1)]
    return figures


def moments(draws: Draws, view: View) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of a view, shape `space`; of a complex field |mean| and the std of |draw|."""
    mean, std = draws.moment("mean"), draws.moment("std")
    if view.channel is not None:
        return mean[view.channel], std[view.channel]
    total, squares = torch.zeros_like(mean[0]), torch.zeros_like(mean[0])
    for block in draws.blocks():
        values = view.of(block)
        total += values.sum(0)
        squares += values.square().sum(0)
    n = draws.number
    spread = (squares - total.square() / n).clamp_min(0) / (n - 1) if n > 1 else torch.full_like(total, torch.nan)
    return view.of(mean[None])[0], spread.sqrt()


def scored_places(draws: Draws) -> Tensor:
    """Flat indices of the values that are scored, in order."""
    if draws.size <= SCORED:
        return torch.arange(draws.size)
    return torch.randperm(draws.size, generator=Generator().manual_seed(0))[:SCORED].sort().values


def spectra(draws: Draws) -> tuple[Tensor, Tensor] | None:
    """Shells of wavenumber, and the power of every draw, `(n, bins)`; None where the field lies on no uniform grid."""
    spacing = uniform_spacing(draws.field)
    if spacing is None:
        return None
    wavenumber, power = zip(*(radial_spectrum(block, spacing) for block in draws.blocks()), strict=True)
    return wavenumber[0], torch.cat(power)


def uniform_spacing(field: Field) -> tuple[float, ...] | None:
    """Spacing of the field's axes where they are uniform and have at least four points each."""
    axes = getattr(field.grid, "axes", ())
    usable = axes and all(axis.uniform and axis.size >= 4 for axis in axes)
    return tuple(axis.spacing for axis in axes) if usable else None


@dataclass(frozen=True)
class Misfit:
    """How the draws meet the data.

    Arguments:
        chi_square: Reduced chi-square per datum, mean over the draws.
        count: Number of data.
        residuals: Counts of (data - noiseless data of a draw) / noise standard deviation between `RESIDUAL_EDGES`,
            ends included in
            the outermost; None where the noise is not Gaussian.
    """

    chi_square: float
    count: int
    residuals: Tensor | None

    @classmethod
    def of(cls, draws: Draws, measurement: Measurement) -> Misfit:
        total, counts = 0.0, torch.zeros(len(RESIDUAL_EDGES) - 1, dtype=torch.float64)
        law = measurement.noise
        for block in draws.blocks():
            total += float(measurement.chi_square(block).sum())
            if isinstance(law, GaussianNoiseModel):
                standardised = measurement.residual(block) / law.variance.sqrt()
                values = standardised if measurement.observed is None else standardised[:, measurement.observed]
                inside = values.flatten().clamp(float(RESIDUAL_EDGES[0]), float(RESIDUAL_EDGES[-1]))
                counts += torch.histogram(inside, RESIDUAL_EDGES).hist
        return cls(total / draws.number, measurement.count, counts if isinstance(law, GaussianNoiseModel) else None)
