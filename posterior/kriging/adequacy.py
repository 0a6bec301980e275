"""Whether a fitted law suits its data: against white noise, against its hyperpriors, against the data's spacing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from scipy.spatial import cKDTree
from torch import Tensor

from infield.posterior.kriging.family import LOG_NOISE, Family
from infield.posterior.kriging.law import matern_unit
from infield.posterior.kriging.observations import Observations, noise_variances
from infield.posterior.kriging.vecchia import Whitened

EDGE = 3.0
"""Hyperparameters so many standard deviations of their hyperprior away are reported: the data did not settle them."""

UNSETTLED = 0.25
"""And whose error is larger than this share of their hyperprior's standard deviation."""

WHITE = math.log(3.0)
"""Log Bayes factor of white noise over a field from which on it is reported: "positive" evidence (Kass & Raftery 1995,
J. Am. Stat. Assoc. 90, 773). Below, data of either kind are common: of 200 right files of 30 data whose noise was not
known, 2 % favoured white noise, none of them by this factor."""

APART = 0.1
"""Median correlation of the field at neighbouring data below which the field is hard to distinguish from noise."""


def log_evidence_of_white(
    channels: Sequence[Observations], prior_variance: Callable[[Observations], Tensor], noise_known: bool
) -> float:
    """Log evidence of white noise around the trend, of known or of its most probable level, one for all channels."""
    levels: Tensor = torch.ones(channels[0].noise.shape[1:], dtype=torch.float64)
    if not noise_known:
        squares = []
        for data in channels:
            weight = (data.noise if data.noise.ndim == 1 else data.noise.sum(1)).rsqrt()
            F, y = weight[:, None] * data.design, weight * data.y
            squares.append(
                y - F @ torch.linalg.lstsq(F, y[:, None], driver="gelsd").solution[:, 0] if F.shape[1] else y
            )
        found = torch.cat(squares).square()
        if levels.ndim:
            own = torch.cat([data.noise for data in channels])[:, :-1] > 0
            levels[:-1] = (found[:, None] * own).sum(0) / own.sum(0).clamp_min(1)
        else:
            levels = found.mean()
        levels = levels.clamp_min(1e-300)
    total = 0.0
    for data in channels:
        variance = noise_variances(data.noise, levels)
        if not bool((variance > 0).all()):
            return -math.inf
        u = variance.rsqrt()[:, None] * torch.cat([data.y[:, None], data.design], 1)
        y, F = u[:, 0], u[:, 1:]
        sums = Whitened(y @ y, F.mT @ y, F.mT @ F, variance.log().sum(), len(y))
        total += float(sums.log_evidence(prior_variance(data)))
    return total


def laplace_of_white(channels: Sequence[Observations], noise_known: bool) -> float:
    """What integrating over each level of white noise near one adds: its log variance has the error sqrt(2 / n)."""
    if noise_known:
        return 0.0
    noise = torch.cat([data.noise for data in channels])
    counts = [len(noise)] if noise.ndim == 1 else (noise[:, :-1] > 0).sum(0).tolist()
    mean, sd = LOG_NOISE
    return sum(-0.5 * (mean / sd) ** 2 - math.log(sd) + 0.5 * math.log(2 / max(count, 1)) for count in counts)


def warnings_of(
    family: Family,
    theta: Tensor,
    errors: Tensor,
    log_bayes_factor: float,
    channels: Sequence[Observations],
    noise_known: bool,
) -> tuple[str, ...]:
    """Faults of a fit; for the Bayes factor see `Fit`."""
    warnings = []
    if log_bayes_factor < -WHITE:
        warnings.append("white noise explains the data better than a field does "
                        f"(log Bayes factor {-log_bayes_factor:.1f})")  # fmt: skip
    mean, sd = family.prior
    for name, value, m, s, error in zip(family.names, theta, mean, sd, errors, strict=True):
        if abs(float(value - m)) > EDGE * float(s) and float(error) > UNSETTLED * float(s):
            warnings.append(f"the data did not settle the {name}: it lies {abs(float(value - m) / float(s)):.1f} "
                            "standard deviations from where the hyperprior expects it")  # fmt: skip
    apart = max(_correlation_of_neighbours(family, theta, data.x) for data in channels)
    if noise_known and apart < APART:
        warnings.append(f"the field varies within the distance of neighbouring data (correlation {apart:.2f}): "
                        "their noise may be larger than the file states")  # fmt: skip
    return tuple(warnings)


def _correlation_of_neighbours(family: Family, theta: Tensor, x: Tensor) -> float:
    """Of the field at a datum and at the nearest other place, median over the data."""
    z = family.kernel(theta, x)[0].unique(dim=0)
    if len(z) < 2:
        return 1.0
    distance = torch.from_numpy(cKDTree(z.numpy()).query(z.numpy(), k=2)[0][:, 1])
    return float(matern_unit(distance.median(), family.nu))
