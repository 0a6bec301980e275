r"""Data in two parts, one to reconstruct from and one to predict, which are independent given the field.

A fifth of the positions is held out. The other data are split in themselves by data fission (Leiner et al. 2023, JASA
118, arXiv 2112.11079; for priors of inverse problems, arXiv 2510.27663): Gaussian data y ~ N(z, R) with w ~ N(0, R)
into

    y_a = y + w ~ N(z, 2 R),    y_b = y - w ~ N(z, 2 R);

counts into two random halves (binomial thinning), each worth twice as much. Both are independent if the noise is what
the file states, and correlate otherwise. Data of other noise models are held out alone.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor

from infield.physics.measurement import Measurement
from infield.physics.noise.base import GaussianNoiseModel, NoiseModel, standard_normal_like
from infield.physics.noise.poisson import PoissonNoise

HELD_OUT = 0.2
"""Fraction of the positions that are held out."""

MIN_POSITIONS = 20
"""Fewer positions are not held out: the rest would determine too little."""


@dataclass(frozen=True)
class SplitData:
    """Two parts of a measurement.

    Arguments:
        training: What is reconstructed.
        test: What is predicted, shape of the data, zero where nothing was observed.
        held_out: Bool, shape `data`: entries that are held out, with the noise of the file.
        observed: Bool, shape `data`.
        fission: Noise of the test part of the other entries; None where these are not tested.
        noise: Of the file.
    """

    training: Measurement
    test: Tensor
    held_out: Tensor
    observed: Tensor
    fission: NoiseModel | None
    noise: NoiseModel

    @property
    def tested(self) -> Tensor:
        """Bool, shape `data`: entries of the test part."""
        return self.observed if self.fission is not None else self.held_out

    def noisy(self, z: Tensor, generator: Generator) -> Tensor:
        """Test data of noiseless data `(n, *data)`."""
        y = self.noise.sample(z, generator)
        if self.fission is not None:
            y = torch.where(self.held_out, y, self.fission.sample(z, generator))
        return torch.where(self.tested, y, torch.zeros_like(y))


def split_data(measurement: Measurement, generator: Generator) -> SplitData:
    """Split a measurement as above."""
    y, noise = measurement.y, measurement.noise
    observed = torch.ones_like(y[0], dtype=torch.bool) if measurement.observed is None else measurement.observed
    held_out = _held_out(measurement, observed, generator)
    fission: NoiseModel | None = None
    if isinstance(noise, GaussianNoiseModel):
        w = noise.root(standard_normal_like(y, generator))
        fission, first, second = noise.of_mean(0.5), y + w, y - w
    elif isinstance(noise, PoissonNoise):
        counts = (y / noise.gain).round()
        half = torch.binomial(counts.clamp_min(0), torch.full_like(counts, 0.5), generator=generator)
        fission = noise.of_mean(0.5)
        first, second = 2 * noise.gain * half, 2 * noise.gain * (counts - half)
    else:
        first = second = y
    kept = observed & ~held_out
    zero = torch.zeros_like(y)
    training = replace(
        measurement,
        y=torch.where(kept, first, zero),
        observed=kept,
        noise=noise if fission is None else fission,
        truth=None,
        digest=None,
        source=None,
    )
    test = torch.where(held_out, y, second if fission is not None else zero)
    return SplitData(training, torch.where(observed, test, zero)[0], held_out, observed, fission, noise)


def _held_out(measurement: Measurement, observed: Tensor, generator: Generator) -> Tensor:
    """A fifth of the positions along the last axes, all channels and coils of one together."""
    lead = leading_axes(measurement)
    at = observed.flatten(0, lead - 1).any(0)
    positions = at.flatten().nonzero()[:, 0]
    chosen = torch.zeros(at.numel(), dtype=torch.bool)
    if len(positions) >= MIN_POSITIONS:
        order = torch.randperm(len(positions), generator=generator)[: max(round(HELD_OUT * len(positions)), 1)]
        chosen[positions[order]] = True
    return chosen.reshape(at.shape).expand(observed.shape) & observed


def leading_axes(measurement: Measurement) -> int:
    """Axes of the data that are no positions: channel, and coils or instruments; as many as the field has follow."""
    return max(measurement.y.ndim - 1 - len(measurement.grid.shape), 1)
