r"""One p-value for all functionals of a field, by exchanging the truth with a draw.

Simulation-based calibration (Talts et al. 2018, arXiv 1804.06788, theorem 1): where the sampler is right, the truth
x_0 and the n draws x_1 ... x_n given its data are exchangeable, and so are the values f(x_0), ..., f(x_n) of every
functional, also of one that depends on the data (Modrak et al. 2023, arXiv 2211.02383). Values of one field are
dependent, so nothing is pooled over places: the reference distribution of each statistic is that of the same statistic
with the truth of every simulation exchanged for one of its draws at random. This is exact for any number of simulations
and draws, whatever the correlation of the functionals.

| symbol | meaning |
| --- | --- |
| S, n, J | simulations, draws, functionals |
| r in 0 ... n | rank of a candidate among all n + 1 |
| z = Phi^{-1}((r + 1/2) / (n + 1)) | its normal score |
| L_j, D_j | location and dispersion of the truth's scores of functional j, of mean 0 and variance 1 by exchange |

The statistics are max |L_j|, max |D_j|, sum L_j^2, and the standardised sums of L_j over linear functionals of one sign
and of D_j over all. Their p-values are combined by the smallest (Westfall & Young 1993, algorithm 2.8).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Generator, Tensor

from infield.core.errors import InfieldError

EXCHANGES = 1999
"""Random exchanges behind a p-value, which is then no less than 1 in 2000."""

ALARM = 0.01
"""p-value below which a posterior is called wrong: false alarms in 1 % of right ones."""

STATISTICS = ("largest location", "largest dispersion", "sum of squared locations", "common location",
              "common dispersion")  # fmt: skip
"""What is tested, in the order of `Exchange.p_values`."""


@dataclass(frozen=True)
class Exchange:
    """Result of the test.

    Arguments:
        p: Combined p-value.
        p_values: One for each of `STATISTICS`.
        location: L_j, shape `(J,)`; positive where truths lie above the draws.
        dispersion: D_j, shape `(J,)`; positive where truths lie outside of the draws, which are too narrow.
        common_location, common_dispersion: The standardised sums.
    """

    p: float
    p_values: tuple[float, ...]
    location: Tensor
    dispersion: Tensor
    common_location: float
    common_dispersion: float


def normal_scores(values: Tensor, ties: Generator) -> Tensor:
    """Normal score of every candidate among all n + 1 of its simulation.

    Arguments:
        values: Of functionals, shape `(S, n + 1, J)`, the truth first.
        ties: Orders equal values at random.

    Returns:
        Scores, shape of `values`.
    """
    count = values.shape[1]
    shuffled = torch.rand(values.shape, generator=ties, dtype=torch.float64).argsort(1)
    order = values.gather(1, shuffled).argsort(dim=1, stable=True)
    rank = torch.empty_like(order)
    rank.scatter_(1, shuffled.gather(1, order), torch.arange(count)[None, :, None].expand_as(order).contiguous())
    return torch.special.ndtri((rank.to(torch.float64) + 0.5) / count)


def correlations(scores: Tensor) -> Tensor:
    """Correlation of scores over all candidates, `(S, n + 1, J)` to `(J, J)`; symmetric in truth and draws."""
    flat = scores.flatten(0, 1)
    flat = flat - flat.mean(0)
    flat = flat / flat.norm(dim=0).clamp_min(1e-300)
    return flat.mT @ flat


def exchange_test(scores: Tensor, one_sign: Tensor, generator: Generator, *, exchanges: int = EXCHANGES) -> Exchange:
    """Whether truths are exchangeable with draws.

    Arguments:
        scores: Of `normal_scores`, shape `(S, n + 1, J)`, the truth first.
        one_sign: Bool, shape `(J,)`: linear functionals with weights of one sign: a shift moves all alike.
        generator: Draws the exchanges.
        exchanges: How many.

    Raises:
        InfieldError: Fewer than one simulation, draw or functional.
    """
    S, candidates, J = scores.shape
    if S < 1 or candidates < 2 or J < 1:
        raise InfieldError(
            where="calibration", found=f"scores of shape {tuple(scores.shape)}", expected="(S, n + 1, J)"
        )
    chosen = torch.randint(candidates, (exchanges + 1, S), generator=generator)
    chosen[0] = 0
    sums = _Sums.of(scores[torch.arange(S), chosen], scores, one_sign)  # (B + 1, S, J)
    p_each = at_least_as_large(sums.statistics)
    smallest = p_each.amin(1)
    p = float((smallest <= smallest[0]).double().mean())
    location, dispersion = float(sums.common_location[0]), float(sums.common_dispersion[0])
    return Exchange(p, tuple(p_each[0].tolist()), sums.location[0], sums.dispersion[0], location, dispersion)


@dataclass(frozen=True)
class _Sums:
    """L_j and D_j, `(rows, J)`, and their standardised sums, `(rows,)`."""

    location: Tensor
    dispersion: Tensor
    common_location: Tensor
    common_dispersion: Tensor

    @classmethod
    def of(cls, z: Tensor, scores: Tensor, one_sign: Tensor) -> Self:
        """Of scores z of the truths, `(rows, S, J)`; `scores` are those of all candidates."""
        S = z.shape[1]
        grid = scores[0, :, 0].square()
        v = grid.mean()
        k = (grid - v).square().mean().clamp_min(1e-300)
        L, D = z.sum(1) / (S * v).sqrt(), (z.square() - v).sum(1) / (S * k).sqrt()
        alike = one_sign.to(torch.float64)
        of_location = (alike @ correlations(scores) @ alike).clamp_min(1e-300).sqrt()
        of_dispersion = correlations(scores.square()).sum().clamp_min(1e-300).sqrt()
        return cls(L, D, L @ alike / of_location, D.sum(1) / of_dispersion)

    @property
    def statistics(self) -> Tensor:
        """`STATISTICS`, shape `(rows, 5)`."""
        L, D = self.location, self.dispersion
        largest = L.abs().amax(1), D.abs().amax(1)
        return torch.stack([*largest, L.square().sum(1), self.common_location.abs(), self.common_dispersion.abs()], 1)


def at_least_as_large(statistics: Tensor) -> Tensor:
    """Fraction of rows whose statistic is at least that of each row, column by column; shape `(rows, columns)`."""
    ordered = statistics.sort(0).values
    below = torch.searchsorted(ordered.mT.contiguous(), statistics.mT.contiguous() * (1 - 1e-12)).mT
    return 1 - below.to(torch.float64) / len(statistics)


def with_fault(values: Tensor, width: float = 1.0, shift: float = 0.0) -> Tensor:
    """Values whose draws are wrong by a known amount: width times their deviations, shift in their standard deviations.

    Arguments:
        values: Shape `(S, n + 1, J)`, the truth first.
        width: Factor of the standard deviation of the draws.
        shift: Of their mean, in standard deviations.
    """
    draws = values[:, 1:]
    mean, std = draws.mean(1, keepdim=True), draws.std(1, keepdim=True)
    return torch.cat([values[:, :1], mean + width * (draws - mean) + shift * std], 1)


@dataclass(frozen=True)
class Power:
    """Smallest faults of all functionals together that are found with 80 % power; infinite (or 0) where none is.

    Arguments:
        too_narrow: Factor of the standard deviation, below 1.
        too_wide: Factor above 1.
        shift: In posterior standard deviations of the functionals, of one sign.
    """

    too_narrow: float
    too_wide: float
    shift: float


POWER, REPEATS, HALVINGS = 0.8, 40, 6


def smallest_faults(values: Tensor, one_sign: Tensor, generator: Generator, *, exchanges: int = 999) -> Power:
    """Smallest faults that are found with 80 % power, by injecting them into the very draws.

    In each repetition a candidate taken at random is the truth of every simulation, so that without the fault truth and
    draws are exchangeable, whether the sampler is right or not. The reference distribution is that of the draws as they
    are: a fault changes the correlations of the scores alone.

    Arguments:
        values: Of the functionals, shape `(S, n + 1, J)`.
        one_sign: As for `exchange_test`.
        generator: Of all random numbers.
        exchanges: Behind the reference distribution.
    """
    S, candidates, _ = values.shape
    scores = normal_scores(values, generator)
    chosen = torch.randint(candidates, (exchanges, S), generator=generator)
    reference = _Sums.of(scores[torch.arange(S), chosen], scores, one_sign).statistics
    smallest = at_least_as_large(reference).amin(1)
    ordered = reference.sort(dim=0).values.mT.contiguous()

    def found(width: float, shift: float) -> bool:
        z = []
        for _ in range(REPEATS):
            order = torch.rand((S, candidates), generator=generator, dtype=torch.float64).argsort(1)
            mixed = values.gather(1, order[:, :, None].expand_as(values))
            z.append(normal_scores(with_fault(mixed, width, shift), generator)[:, 0])
        T = _Sums.of(torch.stack(z), scores, one_sign).statistics
        below = torch.searchsorted(ordered, T.mT.contiguous()).mT
        p_each = (exchanges - below + 1).to(torch.float64) / (exchanges + 1)
        p = (smallest[None] <= p_each.amin(1, keepdim=True)).double().mean(1)
        return float((p < ALARM).double().mean()) >= POWER

    def boundary(kind: str, largest: float) -> float:
        """Smallest size x in (0, largest] that is found; infinite where the largest is not."""

        def seen(x: float) -> bool:
            return found(1.0, x) if kind == "shift" else found(math.exp(x if kind == "wide" else -x), 0.0)

        if not seen(largest):
            return math.inf
        low, high = 0.0, largest
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            low, high = (low, middle) if seen(middle) else (middle, high)
        return high

    return Power(math.exp(-boundary("narrow", 2.0)), math.exp(boundary("wide", 2.0)), boundary("shift", 4.0))
