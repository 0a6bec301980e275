r"""How far two ensembles are apart in a summary: errors of the median and of the spread, their floor, their bands.

As Xia & Wise (arXiv 2605.29016) compare lightcones, bin by bin of a summary y with the median y_0 and the half width
sigma_0 of the central 68.27 % over the reference ensemble, and y_1, sigma_1 over the other one:

    eps_rel = (y_1 - y_0) / |y_0|,    eps_std = (y_1 - y_0) / sigma_0,    eps_sigma = sigma_1 / sigma_0 - 1,

kept where |y_0|, or sigma_0, exceeds a threshold; MAE is the mean of |eps| over the bins that are kept. Two ensembles
of one law are not at zero: for n and m Gaussian members the median's error alone gives MAE_std = 0.8 * 1.25 (1/n +
1/m)^(1/2), 0.050 at 800 and 800. So a score is given with its *floor*, the same between random halves of the reference.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

LOW, HIGH = 0.15865, 0.84135
"""Quantiles one standard deviation from the median of a normal law."""


@dataclass(frozen=True)
class EnsembleError:
    """Errors bin by bin, shape of the bins, NaN where a bin is not kept.

    Arguments:
        relative: eps_rel.
        standard: eps_std.
        spread: eps_sigma.
    """

    relative: Tensor
    standard: Tensor
    spread: Tensor

    @property
    def scores(self) -> dict[str, float]:
        """MAE_rel, MAE_std and MAE_sigma; NaN where no bin is kept."""
        found = {"rel": self.relative, "std": self.standard, "sigma": self.spread}
        return {f"MAE_{name}": float(values.abs().nanmean()) for name, values in found.items()}

    @property
    def kept(self) -> float:
        """Share of the bins that eps_std keeps."""
        return float(torch.isfinite(self.standard).double().mean())


def median_and_spread(y: Tensor) -> tuple[Tensor, Tensor]:
    """Median and half of the central 68.27 % over the members, `(members, *bins)` to `(*bins)` each."""
    low, middle, high = torch.quantile(y, torch.tensor([LOW, 0.5, HIGH], dtype=y.dtype, device=y.device), dim=0)
    return middle, (high - low) / 2


def ensemble_error(reference: Tensor, other: Tensor, threshold: float = 0.0) -> EnsembleError:
    """Errors of an ensemble against a reference.

    Arguments:
        reference: Summaries of its members, shape `(n, *bins)`.
        other: Shape `(m, *bins)`.
        threshold: In the units of the summary; the paper has 1 for mK and mK^2, 0 for scattering coefficients.
    """
    (y_0, sigma_0), (y_1, sigma_1) = median_and_spread(reference), median_and_spread(other)
    nowhere = torch.full_like(y_0, torch.nan)
    seen, spread = y_0.abs() > threshold, sigma_0 > threshold
    return EnsembleError(
        relative=torch.where(seen, (y_1 - y_0) / y_0.abs(), nowhere),
        standard=torch.where(spread, (y_1 - y_0) / sigma_0, nowhere),
        spread=torch.where(spread, sigma_1 / sigma_0 - 1, nowhere),
    )


@dataclass(frozen=True)
class Floor:
    """What two ensembles of one law score.

    Arguments:
        halves: Scores between random halves of the reference, mean over splits.
        expected: The same for ensembles of the sizes that are compared: scores go as (1/n + 1/m)^(1/2).
    """

    halves: dict[str, float]
    expected: dict[str, float]


def floor(
    reference: Tensor, threshold: float, generator: Generator, *, sizes: tuple[int, int], splits: int = 20
) -> Floor:
    """The floor of a comparison, from the reference alone.

    Arguments:
        reference: Shape `(n, *bins)`, at least four members.
        threshold: As for `ensemble_error`.
        generator: Of the splits.
        sizes: Members of the two ensembles that are compared.
        splits: Number of random halvings.
    """
    n = len(reference)
    found = [
        ensemble_error(reference[one], reference[two], threshold).scores for one, two in halvings(n, generator, splits)
    ]
    halves = {name: sum(scores[name] for scores in found) / splits for name in found[0]}
    factor = floor_scaling(sizes, n // 2)
    return Floor(halves, {name: factor * score for name, score in halves.items()})


def halvings(members: int, generator: Generator, splits: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Numbers of the members of two random halves, shape `(members // 2,)` each, so many times."""
    half = members // 2
    for _ in range(splits):
        order = torch.randperm(members, generator=generator)
        yield order[:half], order[half : 2 * half]


def floor_scaling(sizes: tuple[int, int], half: int) -> float:
    """How much two ensembles of these sizes and of one law differ, over what two of `half` members each do."""
    return math.sqrt((1 / sizes[0] + 1 / sizes[1]) / (2 / half))


def medians_agree(reference: Tensor, other: Tensor, least: float) -> Tensor:
    """Whether the medians of two ensembles differ by no more than the reference scatters, shape of the bins.

    Arguments:
        reference, other: Summaries of the members, shapes `(n, *bins)` and `(m, *bins)`.
        least: Difference that is let through where the reference does not scatter, in the units of the summary.
    """
    (y_0, sigma_0), (y_1, _) = median_and_spread(reference), median_and_spread(other)
    return (y_1 - y_0).abs() <= sigma_0.clamp(min=least)


def bootstrap_band(
    statistic: Callable[[Tensor, Tensor], Tensor],
    reference: Tensor,
    other: Tensor,
    generator: Generator,
    *,
    draws: int = 200,
    level: float = 0.68,
) -> tuple[Tensor, Tensor]:
    """The band in which a statistic of two ensembles lies when their members are drawn anew, with replacement.

    Arguments:
        statistic: Of resampled ensembles; NaN is left out.
        reference, other: Shapes `(n, *bins)` and `(m, *bins)`.
        generator: Of the resampling.
        draws: Number of resamplings.
        level: Share of them inside the band.

    Returns:
        Lower and upper edge, shape of the statistic.
    """
    found = []
    for _ in range(draws):
        picks = [torch.randint(len(y), (len(y),), generator=generator) for y in (reference, other)]
        found.append(statistic(reference[picks[0]], other[picks[1]]))
    edges = torch.tensor([(1 - level) / 2, (1 + level) / 2], dtype=reference.dtype)
    low, high = torch.nanquantile(torch.stack(found), edges, dim=0)
    return low, high
