r"""A recalibrated posterior: deviations of the draws from their mean, widened by scale and place.

As approximate posterior recalibration does (Gelman et al., arXiv 2603.20068), draws are moved so that simulations are
calibrated; for a field the widths depend on scale b and place p, because one factor cannot be right for all:

    r_i = x_i - mean,    r'_i(p) = g(p) sum_b w_b(p) (B_b r_i)(p),    x'_i = mean + r'_i.

B_b are differences of Gaussian blurs (Burt & Adelson 1983), which sum to the identity, so that w = g = 1 changes
nothing. With e = truth - mean of n draws,

    w_b(p)^2 = smooth sum_s (B_b e_s)^2 / smooth sum_s (1 + 1/n) var_i B_b r_si,

drawn towards the same ratio over the whole field, as if `PULL` further simulations had shown it; g is the same ratio
for r' as a whole. All draws are moved by the same linear map, so that they stay joint draws of fields, and their mean
stays what it was.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from infield.core.grid import Grid, PointSet

PULL = 8.0
"""Simulations that the ratio over the whole field counts as, at each place."""

SMOOTH = 24
"""A ratio at a place is taken over a neighbourhood of this fraction of each axis: one in so many parts (sd)."""

WIDEST = 5.0
"""Widths lie between one over this and this."""


@dataclass(frozen=True)
class Pyramid:
    """The maps B_b on a grid.

    Arguments:
        blurs: Standard deviations of the blurs in points, increasing; none for scattered points: one scale.
        modes: How each space axis continues: "wrap" or "reflect".
    """

    blurs: tuple[float, ...]
    modes: tuple[str, ...]

    @classmethod
    def of(cls, grid: Grid | PointSet) -> Self:
        """Blurs of one point, and twice as many each time, up to a sixteenth of the shortest side."""
        if not isinstance(grid, Grid):
            return cls((), ("reflect",))
        shortest = min((n for n in grid.shape if n > 1), default=1)
        count = max(int(math.log2(max(shortest / 16, 0.5))) + 1, 0)
        return cls(tuple(2.0**b for b in range(count)), tuple("wrap" if a.periodic else "reflect" for a in grid.axes))

    def split(self, fields: Tensor) -> Tensor:
        """B_b of fields, `(n, channel, *space)` to `(bands, n, channel, *space)`; they sum to the fields."""
        smooth = [fields, *(self.blurred(fields, sigma) for sigma in self.blurs)]
        return torch.stack([*(a - b for a, b in pairwise(smooth)), smooth[-1]])

    def blurred(self, fields: Tensor, sigma: float | Sequence[float]) -> Tensor:
        """Blurred along the space axes, shape of `fields`."""
        axes = tuple(range(fields.ndim - len(self.modes), fields.ndim))
        values = fields.numpy(force=True)
        return torch.from_numpy(gaussian_filter(values, sigma, mode=list(self.modes), axes=axes, truncate=3.0))


@dataclass(frozen=True)
class Recalibration:
    """The map r -> r'.

    Arguments:
        pyramid: Of its scales.
        widths: w_b, shape `(bands, channel, *space)`.
        overall: g, shape `(channel, *space)`.
    """

    pyramid: Pyramid
    widths: Tensor
    overall: Tensor

    def apply(self, draws: Tensor, mean: Tensor | None = None) -> Tensor:
        """x' of draws x, shape `(n, channel, *space)`.

        Arguments:
            draws: All of them, or some of them together with the mean of all.
            mean: Shape `(channel, *space)`.
        """
        mean = draws.mean(0) if mean is None else mean
        bands = self.pyramid.split(draws - mean)
        return mean + self.overall * (self.widths[:, None] * bands).sum(0)

    @classmethod
    def fit(cls, grid: Grid | PointSet, cases: Callable[[], Iterable[tuple[Tensor, Tensor]]]) -> Self:
        """Widths of simulations.

        Arguments:
            grid: Of the field.
            cases: Gives truths `(channel, *space)` and draws `(n, channel, *space)`, twice.
        """
        pyramid = Pyramid.of(grid)
        errors, variances, count = torch.zeros(()), torch.zeros(()), 0
        for truth, draws in cases():
            n, mean = len(draws), draws.mean(0)
            bands = pyramid.split(torch.cat([(truth - mean)[None], draws - mean]))
            errors = errors + bands[:, 0].square()
            variances = variances + (1 + 1 / n) * bands[:, 1:].square().sum(1) / (n - 1)
            count += 1
        widths = _ratio(pyramid, errors, variances, count)
        first = cls(pyramid, widths, torch.ones(widths.shape[1:], dtype=widths.dtype))
        errors, variances = torch.zeros(()), torch.zeros(())
        for truth, draws in cases():
            n, mean = len(draws), draws.mean(0)
            errors = errors + (truth - mean).square()
            variances = variances + (1 + 1 / n) * first.apply(draws).var(0)
        return cls(pyramid, widths, _ratio(pyramid, errors[None], variances[None], count)[0])


def _ratio(pyramid: Pyramid, errors: Tensor, variances: Tensor, count: int) -> Tensor:
    """Root of the ratio by place of sums over simulations, `(bands, channel, *space)`, pulled to that of the field."""
    space = tuple(range(2, errors.ndim))
    whole = errors.sum((1, *space), keepdim=True) / variances.sum((1, *space), keepdim=True).clamp_min(1e-300)
    if pyramid.blurs:
        sigma = [max(n / SMOOTH, 1.0) if n > 1 else 0.0 for n in errors.shape[2:]]
        errors, variances = pyramid.blurred(errors, sigma), pyramid.blurred(variances, sigma)
    at_place = errors / variances.clamp_min(1e-300)
    pull = PULL / count
    ratio = torch.where(variances > 0, (at_place + pull * whole) / (1 + pull), torch.ones_like(at_place))
    return ratio.sqrt().clamp(1 / WIDEST, WIDEST)


def conformal_factors(scores: np.ndarray, level: float) -> np.ndarray:
    r"""Half widths, in standard deviations, of intervals that hold an exchangeable truth with at least a probability.

    Split conformal prediction (Lei et al. 2018, JASA 113, 1094, theorem 2): of m scores :math:`|e| / \sigma` the
    :math:`\lceil (m + 1) \, level \rceil`-th smallest, infinite where there are too few. The probability is over
    simulations of the source of truths and over a further one, at each place; not for one given y.

    Arguments:
        scores: One row a simulation, shape `(m, *event)`.
        level: At least this is held, and at most level + 1 / (m + 1).

    Returns:
        Shape `event`.
    """
    m = len(scores)
    k = math.ceil((m + 1) * level)
    if k > m:
        return np.full(scores.shape[1:], np.inf)
    return np.partition(scores, k - 1, axis=0)[k - 1]
