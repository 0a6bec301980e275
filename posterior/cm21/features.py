"""A lightcone as few numbers, for inference of its parameters: summaries on logarithmic scales, compressed.

Of each chunk of the line of sight: the mean temperature, the share of exact zeros, the spherical power spectrum and the
scattering coefficients. Each is standardised over simulated cones; the four kinds count alike; the first principal
components of the simulated cones are kept, each of variance 1. The parameters are not looked at, so that a compression
of few cones is not too sure of itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from infield.core.eigenvectors import with_fixed_signs
from infield.posterior.cm21.summary import LightconeSummary

LEAST_POWER, LEAST_COEFFICIENT = 1e-2, 1e-2
"""mK^2 and mK, added before logarithms: chunks that are all ionised have neither power nor coefficients."""

CLIP = 10.0
"""Standard deviations at which a component is cut: beyond, a network only extrapolates."""


def lightcone_features(summary: LightconeSummary, cells: int) -> tuple[Tensor, ...]:
    """The numbers of cones by kind, `(n, numbers)` each: mK, share, log(mK^2), log(mK).

    Arguments:
        summary: Of n cones, in chunks.
        cells: Of a chunk.
    """
    depth = summary.global_signal.shape[1] // cells * cells
    along = [values[:, :depth].unflatten(1, (-1, cells)).mean(2) for values in (summary.global_signal, summary.zeros)]
    spectrum = torch.log(summary.spectrum + LEAST_POWER).flatten(1)
    return *along, spectrum, torch.log(summary.scattering + LEAST_COEFFICIENT).flatten(1)


@dataclass(frozen=True)
class Compression:
    """Standardised numbers in principal components of variance 1.

    Arguments:
        mean: Of the numbers, `(numbers,)`.
        weight: Of each: one over its standard deviation and the root of its kind's numbers; 0 where it does not vary.
        axes: `(numbers, components)`, orthogonal.
        spread: Standard deviations along the axes.
        simulated: Weighted numbers of the cones of which it was made, `(n, numbers)`.
    """

    mean: Tensor
    weight: Tensor
    axes: Tensor
    spread: Tensor
    simulated: Tensor

    @classmethod
    def of(cls, kinds: tuple[Tensor, ...], components: int) -> Compression:
        """From n simulated cones.

        Arguments:
            kinds: What `lightcone_features` gives.
            components: At most so many are kept.
        """
        numbers = torch.cat(kinds, 1)
        mean, deviation = numbers.mean(0), numbers.std(0)
        share = torch.cat([numbers.new_full((kind.shape[1],), 1 / math.sqrt(kind.shape[1])) for kind in kinds])
        varies = deviation > 1e-9 * (1 + mean.abs())
        weight = torch.where(varies, share / deviation, 0.0)
        simulated = (numbers - mean) * weight
        _, singular, axes = torch.linalg.svd(simulated, full_matrices=False)
        axes = with_fixed_signs(axes.mT).mT
        kept = min(components, int((singular > 1e-6 * singular[0]).sum()))
        spread = singular[:kept] / math.sqrt(len(numbers) - 1)
        return cls(mean, weight, axes[:kept].mT, spread, simulated)

    @property
    def explained(self) -> float:
        """Share of the variance of the weighted numbers that the components keep."""
        return float(self.spread.square().sum() / self.simulated.var(0).sum())

    def weighted(self, kinds: tuple[Tensor, ...]) -> Tensor:
        """Weighted numbers `(n, numbers)` of other cones."""
        return (torch.cat(kinds, 1) - self.mean) * self.weight

    def __call__(self, kinds: tuple[Tensor, ...]) -> Tensor:
        """Components `(n, components)` of other cones."""
        return (self.weighted(kinds) @ self.axes / self.spread).clamp(-CLIP, CLIP)

    def distance(self, kinds: tuple[Tensor, ...]) -> Tensor:
        """From each cone to the nearest simulated one, `(n,)`: root mean square over kinds, in standard deviations.

        All numbers count, also what the components leave out. A number that never varied among the simulated cones has
        no scale, and is not looked at.
        """
        return torch.cdist(self.weighted(kinds), self.simulated).amin(1) / math.sqrt(len(kinds))
