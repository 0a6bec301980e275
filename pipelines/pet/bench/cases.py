"""Counts of known log-normal rates: truths of a Matern kernel, drawn and projected on a finer grid than the data's."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Generator, Tensor

from infield.core.grid import Axis, Grid
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import PoissonNoise
from infield.physics.operators.composition import Affine, compose
from infield.physics.operators.links import Exponential
from infield.physics.pet.geometry import ParallelBeam
from infield.physics.pet.projection import Projection
from infield.priors.gaussian.kernels import Matern
from infield.priors.gaussian.prior import GaussianPrior, gaussian_prior

FIELD_OF_VIEW = 256.0
LENGTH, SD, NU = 15.0, 0.8, 1.5
BACKGROUND = 0.2
"""Fraction of the counts that is background, uniform over the bins."""

FINER = 2


@dataclass(frozen=True)
class Case:
    """One truth and its counts.

    Arguments:
        emission: The projector without background; its weight is the exposure.
        background: Expected counts of each bin, shape `(angle, bin)`.
        counts: Shape `(1, 1, angle, bin)`.
        rate: True rate, the mean over each pixel, shape `(y, x)`.
    """

    emission: Projection
    background: Tensor
    counts: Tensor
    rate: Tensor

    @property
    def log_rate(self) -> Tensor:
        return self.rate.log()

    @property
    def measurement(self) -> Measurement:
        """Of the log rate."""
        grid = self.emission.grid
        scale = torch.ones((1, 1, 1), dtype=torch.float64)
        affine = Affine(self.emission.data_grid, 1, scale, self.background[None])
        operator = compose(affine, self.emission, Exponential(grid, 1))
        return Measurement(y=self.counts, operator=operator, noise=PoissonNoise(1.0), grid=grid)

    def thinned(self, fraction: float, generator: Generator) -> Case:
        """The counts of a fraction of the dose: each is kept with this probability."""
        kept = torch.binomial(self.counts, torch.full_like(self.counts, fraction), generator=generator)
        assert self.emission.weight is not None
        return replace(
            self,
            emission=projector(self.emission.grid.shape[0], self.counts.shape[-2], self.emission.weight * fraction),
            background=fraction * self.background,
            counts=kept,
        )


def image_grid(side: int) -> Grid:
    """A square in mm, centred."""
    coordinates = tuple(((np.arange(side) - (side - 1) / 2) * FIELD_OF_VIEW / side).tolist())
    return Grid((Axis("y", coordinates, "mm"), Axis("x", coordinates, "mm")))


def projector(side: int, angles: int, weight: Tensor | None = None, *, finer: int = 1) -> Projection:
    """Rays for an image of a side, through an image whose pixels are finer by a factor."""
    bins = side + side // 4
    geometry = ParallelBeam.regular(angles, bins, FIELD_OF_VIEW / side)
    return Projection(image_grid(finer * side), 1, geometry, weight)


def rate_prior(side: int) -> GaussianPrior:
    """The law of the log rate on the grid of the data."""
    return gaussian_prior(Matern(NU, LENGTH, SD**2), image_grid(side))


def draw_case(side: int, angles: int, counts: float, seed: int) -> Case:
    """A truth, and data with this expected number of counts."""
    generator = Generator().manual_seed(seed)
    law = gaussian_prior(Matern(NU, LENGTH, SD**2), image_grid(FINER * side))
    field = law.standardisation.to_units(law.covariance.sample(1, generator))
    fine = field.exp()
    ideal = projector(side, angles, finer=FINER).A(fine)
    exposure = (1 - BACKGROUND) * counts / ideal.sum()
    background = torch.full(ideal.shape[-2:], BACKGROUND * counts / ideal[0, 0].numel(), dtype=torch.float64)
    y = torch.poisson(exposure * ideal + background, generator=generator)
    rate = torch.nn.functional.avg_pool2d(fine, FINER)[0, 0]
    return Case(projector(side, angles, exposure.expand(ideal.shape[-2:]).clone()), background, y, rate)
