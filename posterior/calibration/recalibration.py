r"""A recalibrated posterior: deviations of the draws from their mean, widened by scale and place.

As approximate posterior recalibration does (Gelman et al., arXiv 2603.20068), draws are moved so that simulations are
calibrated; for a field the widths depend on scale b and place p, because one factor cannot be right for all:

    r_i = x_i - mean,    r'_i(p) = g(p) sum_b w_b(p) (B_b r_i)(p),    x'_i = mean + r'_i.

B_b are differences of Gaussian blurs (Burt & Adelson 1983), which sum to the identity, so that w = g = 1 changes
nothing. With e = truth - mean of n draws,

    w_b(p)^2 = smooth sum_s (B_b e_s)^2 / smooth sum_s (1 + 1/n) var_i B_b r_si,

drawn towards the same ratio over the whole field, as if `PULL` further simulations had shown it; g is the same ratio
for r' as a whole.

Where draws of one posterior scatter more than those of another, errors may differ by even more (the relation of spread
and skill of ensembles: Gneiting et al. 2005, Mon. Weather Rev. 133, 1098). With S the variance of r', summed over the
field, and E the sum of e^2,

    r'' = c (S / S_0)^(gamma / 2) r',    log(E / S) = gamma log(S / S_0) + const over the simulations,

S_0 their geometric mean, gamma by least squares, shrunk by the positive-part rule of James & Stein (1961) and not below
0 (a spread that varies by chance alone, as few draws give it, is left as it is), and c such that sums of E and of the
variances of r'' agree.

All draws are moved by the same linear map, so that they stay joint draws of fields, and their mean stays what it was.

Where a posterior misses how wide it is from place to place, errors have longer tails than draws: with the right
variance, intervals then hold too much. Errors of an uncertain scale are a mixture over scales (West 1987, Biometrika
74, 646), and each draw takes its own,

    q_i(p) = c' e^(tau g_i(p) - tau^2) r''_i(p), less its mean over i,    x'_i = mean + q_i,

with g_i standard normal fields, blurred over the finest scale (E of the square of the factor is 1), c' such that
variances stay what they were, and tau such that the ranks u of truths among draws have E |u - 1/2| = 1/4, which
uniform ones have. tau is 0 unless ranks of the simulations are too central by twice their standard error.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Self

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor

from infield.core.grid import Grid, PointSet
from infield.core.randomness import SampleStreams
from infield.posterior.diagnostics.calibration import ranks

PULL = 8.0
"""Simulations that the ratio over the whole field counts as, at each place."""

SMOOTH = 24
"""A ratio at a place is taken over a neighbourhood of this fraction of each axis: one in so many parts (sd)."""

WIDEST = 5.0
"""Widths lie between one over this and this."""


FARTHEST = 2.0
"""And those by the spread of a posterior beside another, likewise."""

LONGEST_TAIL = 1.0
"""tau is at most this."""

TRIED = 11
"""Values of tau, from 0 on, at which mean ranks are found; between them it is interpolated."""


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
        overall: c g, shape `(channel, *space)`.
        exponent: gamma.
        typical: log S_0.
        tail: tau.
    """

    pyramid: Pyramid
    widths: Tensor
    overall: Tensor
    exponent: float = 0.0
    typical: float = 0.0
    tail: float = 0.0

    def apply(self, draws: Tensor, seed: int = 0) -> Tensor:
        """x' of all draws x of a posterior, shape `(n, channel, *space)`; `seed` is that of g_i."""
        mean, r = draws.mean(0), self._widened(draws)
        if self.exponent and len(draws) > 1:
            r = r * _bounded(self.exponent / 2 * (_log_sum(r.var(0)) - self.typical))
        if self.tail:
            r = _scattered(r, self._white(len(draws), seed), self.tail)
        return mean + r

    def _white(self, n: int, seed: int) -> Tensor:
        """g_i, shape `(n, 1, *space)`: a function of the seed and of i."""
        g = SampleStreams(seed, range(n)).normal((1, *self.overall.shape[1:]))
        if self.pyramid.blurs:
            g = self.pyramid.blurred(g, self.pyramid.blurs[0])
            g = g / g.square().mean().sqrt()
        return g

    def _widened(self, draws: Tensor) -> Tensor:
        """c r' of draws."""
        bands = self.pyramid.split(draws - draws.mean(0))
        return self.overall * (self.widths[:, None] * bands).sum(0)

    @classmethod
    def fit(cls, grid: Grid | PointSet, cases: Callable[[], Iterable[tuple[Tensor, Tensor]]]) -> Self:
        """Widths of simulations.

        Arguments:
            grid: Of the field.
            cases: Gives truths `(channel, *space)` and draws `(n, channel, *space)`, four times.
        """
        return cls._by_variances(grid, cases)._with_tail(cases)

    @classmethod
    def _by_variances(cls, grid: Grid | PointSet, cases: Callable[[], Iterable[tuple[Tensor, Tensor]]]) -> Self:
        """w, g, gamma and c."""
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
        second = cls(pyramid, widths, _ratio(pyramid, errors[None], variances[None], count)[0])
        E, S, wider = [], [], []
        for truth, draws in cases():
            variance = second.apply(draws).var(0)
            E.append(float((truth - draws.mean(0)).square().sum()))
            S.append(_log_sum(variance))
            wider.append((1 + 1 / len(draws)) * math.exp(S[-1]))
        exponent, typical = _exponent(np.log(np.maximum(E, 1e-300)) - np.array(S), np.array(S)), float(np.mean(S))
        if exponent == 0:
            return second
        scale = [_bounded(exponent / 2 * (one - typical)) ** 2 for one in S]
        c = (sum(E) / float(np.dot(scale, wider))) ** 0.5
        # S of c r' is c^2 times as large, and S_0 with it
        return cls(pyramid, widths, c * second.overall, exponent, typical + 2 * math.log(c))

    def _with_tail(self, cases: Callable[[], Iterable[tuple[Tensor, Tensor]]]) -> Self:
        """The same with tau and c'."""
        tails = np.linspace(0, LONGEST_TAIL, TRIED)
        central, variances = [], []
        for s, (truth, draws) in enumerate(cases()):
            r, e = self.apply(draws) - draws.mean(0), truth - draws.mean(0)
            g = self._white(len(draws), s)
            tried = [_scattered(r, g, tail) for tail in tails]
            central.append([_distance_of_ranks(ranks(one, e), len(draws)) for one in tried])
            variances.append([float(one.var(0).sum()) for one in tried])
        if len(central) < 4:
            return self
        distance, error = np.mean(central, 0), np.std(np.array(central)[:, 0], ddof=1) / math.sqrt(len(central))
        if distance[0] > 0.25 - 2 * error:
            return self
        tail = float(np.interp(0.25, np.maximum.accumulate(distance), tails))
        sums = np.sum(variances, 0)
        c = float(sums[0] / np.interp(tail, tails, sums)) ** 0.5
        return replace(self, overall=c * self.overall, typical=self.typical + 2 * math.log(c), tail=tail)


def _scattered(r: Tensor, g: Tensor, tail: float) -> Tensor:
    """q of r'', but for c'."""
    scattered = torch.exp(tail * g - tail**2) * r
    return scattered - scattered.mean(0)


def _distance_of_ranks(rank: Tensor, n: int) -> float:
    """Mean of |u - 1/2| for u uniform in (rank, rank + 1) / (n + 1)."""
    far = ((rank + 0.5) / (n + 1) - 0.5).abs()
    return float(torch.where(2 * rank == n, far.new_tensor(0.25 / (n + 1)), far).mean())


def _log_sum(variance: Tensor) -> float:
    return math.log(max(float(variance.sum()), 1e-300))


def _bounded(log_factor: float) -> float:
    """A factor by the spread, between one over `FARTHEST` and `FARTHEST`: a line is not followed beyond simulations."""
    limit = math.log(FARTHEST)
    return math.exp(min(max(log_factor, -limit), limit))


def _exponent(log_ratio: np.ndarray, log_spread: np.ndarray) -> float:
    """gamma of log E / S and log S of simulations."""
    centred = log_spread - log_spread.mean()
    squares = float(centred @ centred)
    if len(centred) < 4 or squares < 1e-12:
        return 0.0
    slope = float(centred @ log_ratio) / squares
    rest = log_ratio - log_ratio.mean() - slope * centred
    variance = float(rest @ rest) / (len(rest) - 2) / squares
    return slope * (1 - variance / slope**2) if slope > 0 and variance < slope**2 else 0.0


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
