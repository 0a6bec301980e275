r"""The empirical variogram of data around their trend, beside that of a law.

    gamma(h) = mean over pairs at distance h of (r_i - r_j)^2 / 2,    gamma(h) = sigma_n^2 + sigma^2 (1 - M_nu(h))

(Matheron 1963); distances in correlation lengths of the law, so that anisotropy is taken out. The law is fitted by
evidence and not to this curve, which shows whether it is of the right shape.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from infield.posterior.kriging.law import StationaryLaw, matern_unit
from infield.posterior.kriging.observations import Observations

DATA, BINS = 1500, 16
"""Data whose pairs are taken, and bins of distance."""

MAX_LAG_LENGTHS = 4.0
"""Largest distance, in correlation lengths; less where the data do not reach so far."""


@dataclass(frozen=True)
class Variogram:
    """Semivariances by distance.

    Arguments:
        distance: Mean distance of the pairs of each bin, in correlation lengths, shape `(bins,)`.
        empirical: gamma of the data.
        pairs: Number of pairs of each bin.
        fitted: gamma of the law at the same distances, mean noise of the data included.
    """

    distance: Tensor
    empirical: Tensor
    pairs: Tensor
    fitted: Tensor


def variogram(law: StationaryLaw, data: Observations, seed: int = 0) -> Variogram:
    """Of data around their least-squares trend; at most `DATA` of them, chosen by the seed."""
    order = torch.randperm(len(data), generator=Generator().manual_seed(seed))[:DATA]
    data = data.at(order)
    rest = data.y
    if data.design.shape[1]:
        rest = rest - data.design @ torch.linalg.lstsq(data.design, rest[:, None], driver="gelsd").solution[:, 0]
    z = law.embed(data.x)
    i, j = torch.triu_indices(len(data), len(data), 1)
    distance = (z[i] - z[j]).square().sum(1).sqrt()
    reach = min(MAX_LAG_LENGTHS, float(distance.max()) * 0.7)
    near = distance <= reach
    distance, half = distance[near], (rest[i] - rest[j])[near].square() / 2
    bins = (distance / reach * BINS).long().clamp_max(BINS - 1)
    pairs = torch.bincount(bins, minlength=BINS).to(rest)
    kept = pairs > 0
    mean_distance = torch.zeros_like(pairs).index_add(0, bins, distance)[kept] / pairs[kept]
    empirical = torch.zeros_like(pairs).index_add(0, bins, half)[kept] / pairs[kept]
    fitted = data.noise.mean() + law.variance * (1 - matern_unit(mean_distance, law.nu))
    return Variogram(mean_distance, empirical, pairs[kept], fitted)
