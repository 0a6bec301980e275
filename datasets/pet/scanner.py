"""A simulated scanner: counts of slices that are drawn on a fine grid, and their reconstruction on a coarse one.

The activity is projected on a grid twice as fine, blurred by the point spread, attenuated, summed to the bins of the
scanner and given randoms; the reconstruction is OSEM (Hudson & Larkin 1994) on the coarse grid, without the blur, and a
Gaussian filter, as clinics have it. The same reconstruction of the expected counts is what noise-free data would give.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import scipy.ndimage
import torch
from torch import Generator, Tensor

from infield.core.errors import InfieldError
from infield.core.grid import Axis, Grid
from infield.physics.pet.geometry import ParallelBeam
from infield.physics.pet.projection import Projection

MU = 0.0096
"""Linear attenuation of water at 511 keV, 1/mm."""


@dataclass(frozen=True)
class Scanner:
    """A scanner and its reconstruction of slices of `shape` points.

    Arguments:
        shape: Points along y and x.
        spacing: Distance between them, mm.
        counts: Expected counts of the activity, in the mean over the slices of a scan.
        randoms: Expected randoms, as a fraction of these.
        psf: Full width at half maximum of the blur, mm.
        angles: Of the sinogram, over half a turn.
        subsets, iterations: Of OSEM.
        filter: Full width at half maximum of the filter behind it, mm.
    """

    shape: tuple[int, int] = (56, 48)
    spacing: float = 4.0
    counts: float = 3e5
    randoms: float = 0.3
    psf: float = 5.0
    angles: int = 60
    subsets: int = 10
    iterations: int = 2
    filter: float = 5.0

    def __post_init__(self) -> None:
        positive = (self.spacing, self.counts)
        least = (self.randoms, self.psf, self.filter)
        if not all(0 < v < math.inf for v in positive) or not all(0 <= v < math.inf for v in least):
            raise InfieldError(
                where="scanner",
                found=f"counts {self.counts}, randoms {self.randoms}, psf {self.psf}, filter {self.filter}",
                expected="counts above 0, the others at least 0",
            )
        if self.iterations < 1 or self.subsets < 1 or self.angles % self.subsets:
            raise InfieldError(
                where="scanner",
                found=f"{self.iterations} iterations, {self.subsets} subsets of {self.angles} angles",
                expected="at least 1 of each, and subsets that divide the angles",
            )

    @property
    def fine_shape(self) -> tuple[int, int]:
        return 2 * self.shape[0], 2 * self.shape[1]

    def coordinates(self, fine: bool = False) -> tuple[np.ndarray, np.ndarray]:
        """y and x of the points, mm, about the middle."""
        shape, step = (self.fine_shape, self.spacing / 2) if fine else (self.shape, self.spacing)
        return tuple(step * (np.arange(n) - (n - 1) / 2) for n in shape)  # type: ignore[return-value]

    def _grid(self, fine: bool) -> Grid:
        y, x = self.coordinates(fine)
        return Grid((Axis("y", tuple(y), "mm"), Axis("x", tuple(x), "mm")))

    @cached_property
    def bins(self) -> int:
        return 2 * math.ceil(max(self.shape) * 1.15 / 2)

    @cached_property
    def _fine(self) -> Projection:
        beam = ParallelBeam.regular(self.angles, 2 * self.bins, self.spacing / 2, psf_fwhm=self.psf)
        return Projection(self._grid(True), 1, beam)

    @cached_property
    def _coarse(self) -> list[Projection]:
        """One operator a subset, of every tenth angle or so."""
        beam = ParallelBeam.regular(self.angles, self.bins, self.spacing)
        every = [beam.angles[k :: self.subsets] for k in range(self.subsets)]
        return [Projection(self._grid(False), 1, ParallelBeam(angles, beam.positions)) for angles in every]

    def attenuation(self, head: Tensor) -> Tensor:
        """exp(-P mu) of slices `(slices, y, x)` of the fine grid where water is 1, `(slices, angle, bin)`."""
        return _coarser(torch.exp(-MU * self._fine._project(head[:, None])[:, 0]))

    def expected(self, activity: Tensor, attenuation: Tensor) -> tuple[Tensor, Tensor, float]:
        """Expected counts with randoms, those of the randoms, and counts per unit of activity and mm.

        Arguments:
            activity: Slices of one scan on the fine grid, `(slices, y, x)`.
            attenuation: `(slices, angle, bin)`.
        """
        rays = attenuation * _coarser(self._fine.A(activity[:, None])[:, 0])
        scale = self.counts * len(activity) / float(rays.sum())
        background = torch.full_like(rays, self.randoms * self.counts / rays[0].numel())
        return scale * rays + background, background, scale

    def reconstruct(self, counts: Tensor, attenuation: Tensor, background: Tensor, scale: float) -> Tensor:
        """OSEM and filter, `(slices, y, x)` in units of the activity; arguments as `expected` has them."""
        x = torch.ones(len(counts), 1, *self.shape, dtype=torch.float64)
        for _ in range(self.iterations):
            for k, operator in enumerate(self._coarse):
                y, a, b = (v[:, k :: self.subsets][:, None] for v in (counts, scale * attenuation, background))
                sensitivity = operator.A_adjoint(a).clamp_min(1e-12)
                x = x * operator.A_adjoint(a * y / (a * operator.A(x) + b).clamp_min(1e-12)) / sensitivity
        sigma = self.filter / self.spacing / math.sqrt(8 * math.log(2))
        return torch.from_numpy(scipy.ndimage.gaussian_filter(x[:, 0].numpy(), (0, sigma, sigma)))

    def scan(self, activity: Tensor, attenuation: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        """Reconstructions of counts, and of expected counts, `(slices, y, x)` each."""
        expected, background, scale = self.expected(activity, attenuation)
        counts = torch.poisson(expected, generator=generator)
        both = (self.reconstruct(y, attenuation, background, scale) for y in (counts, expected))
        return next(both), next(both)


def _coarser(sinograms: Tensor) -> Tensor:
    """Means of pairs of bins."""
    return sinograms.unflatten(-1, (-1, 2)).mean(-1)
