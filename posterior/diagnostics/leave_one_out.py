r"""Each datum beside what all others predict of it, from draws of the posterior given all data.

Draws get the weights 1 / p(y_i | x), which are those of the posterior without datum i (Gelfand, Dey & Chang 1992). The
largest are replaced by quantiles of a generalised Pareto distribution that is fitted to them: Pareto-smoothed
importance sampling of Vehtari, Simpson, Gelman, Yao & Gabry 2024 (JMLR 25, 72; arXiv 1507.02646), with the fit of Zhang
& Stephens 2009 (Technometrics 51, 316). Its shape k measures how far that can be trusted: above 0.7 the influence
of the datum is too large for the weights of these draws to give the prediction of the others.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

MAX_SHAPE = 0.7
"""Largest k at which weights count (Vehtari et al. 2024, section 3)."""

MIN_EFFECTIVE = 20.0
"""And the least effective number of draws."""


@dataclass(frozen=True)
class LeaveOneOut:
    """Prediction of each datum from all others, shape `(data,)`.

    Arguments:
        mean, sd: Of the datum with its noise.
        z: (y - mean) / sd.
        shape: k of the weights; NaN where the prediction is exact.
        reliable: Where the weights count.
        inverse: Inverse of the covariance of the data, where predictions are exact.
    """

    mean: Tensor
    sd: Tensor
    z: Tensor
    shape: Tensor
    reliable: Tensor

    inverse: Tensor | None = None

    def disagreeing(self, level: float = 0.05) -> Tensor:
        """Numbers of the data that disagree with all others, the worst first: beyond what the largest of so many would
        exceed with probability `level`. Where predictions are exact, each is left out before the next is judged, so
        that the neighbours of a wrong datum are not named with it."""
        if self.inverse is not None:
            return self._one_by_one(level)
        bad = (self.reliable & (self.z.abs() > _threshold(int(self.reliable.sum()), level))).nonzero()[:, 0]
        return bad[self.z[bad].abs().argsort(descending=True, stable=True)]

    def _one_by_one(self, level: float) -> Tensor:
        assert self.inverse is not None
        P, named = self.inverse.clone(), []
        left = self.z * self.sd / self.sd.square()  # P r, for z = (P r)_i / P_ii^(1/2)
        kept = torch.ones_like(self.z, dtype=torch.bool)
        while kept.sum() > 1:
            z = torch.where(kept, left / P.diagonal().clamp_min(1e-300).sqrt(), 0.0)
            i = int(z.abs().argmax())
            if not float(z[i].abs()) > _threshold(int(kept.sum()), level):
                break
            named.append(i)
            kept[i] = False
            column, pivot = P[:, i].clone(), P[i, i].clone()
            left = left - column * left[i] / pivot
            P = P - torch.outer(column, column) / pivot
        return torch.tensor(named, dtype=torch.long)


def _threshold(count: int, level: float) -> float:
    return float(torch.special.ndtri(torch.tensor(1 - level / (2 * max(count, 1)), dtype=torch.float64)))


def exact(y: Tensor, misfit: Tensor, inverse: Tensor) -> LeaveOneOut:
    """For Gaussian data y = m + r, r ~ N(0, P^-1): r_i given all others has variance 1 / P_ii and (P r)_i / P_ii left.

    Arguments:
        y: The data, shape `(data,)`.
        misfit: r.
        inverse: P, shape `(data, data)`.
    """
    variance = 1 / inverse.diagonal()
    left = (inverse @ misfit) * variance
    unknown, reliable = torch.full_like(y, math.nan), torch.ones_like(y, dtype=torch.bool)
    return LeaveOneOut(y - left, variance.sqrt(), left / variance.sqrt(), unknown, reliable, inverse)


def leave_one_out(y: Tensor, z: Tensor, log_density: Tensor, noise_variance: Tensor) -> LeaveOneOut:
    """From draws.

    Arguments:
        y: The data, shape `(data,)`, with independent errors.
        z: Noiseless data of the draws, shape `(draws, data)`.
        log_density: log p(y_i | z_i), same shape.
        noise_variance: Of each datum under each draw, same shape.
    """
    log_w, shape = smoothed(-log_density)
    w = log_w.exp()
    mean = (w * z).sum(0)
    sd = (w * ((z - mean).square() + noise_variance)).sum(0).sqrt()
    effective = 1 / w.square().sum(0)
    reliable = (shape <= MAX_SHAPE) & (effective >= MIN_EFFECTIVE)
    return LeaveOneOut(mean, sd, (y - mean) / sd, shape, reliable)


def smoothed(log_ratio: Tensor) -> tuple[Tensor, Tensor]:
    """Logarithms of normalised, Pareto-smoothed weights, shape `(draws, columns)`, and the shape k of each column."""
    n = len(log_ratio)
    tail = min(n // 5, math.ceil(3 * n**0.5))
    log_ratio = log_ratio - log_ratio.amax(0)
    order = log_ratio.argsort(0)
    ordered = log_ratio.gather(0, order)
    cut = ordered[n - tail - 1]
    excess = ordered[n - tail :].exp() - cut.exp()
    k, sigma = fit_pareto(excess)
    p = ((torch.arange(tail, dtype=torch.float64) + 0.5) / tail)[:, None]
    near_zero = k.abs() < 1e-9
    safe = torch.where(near_zero, 1.0, k)
    quantile = torch.where(near_zero, -sigma * torch.log1p(-p), sigma * torch.expm1(-safe * torch.log1p(-p)) / safe)
    replaced = (cut.exp() + quantile).log().clamp_max(0)  # no weight above the largest raw one
    usable = torch.isfinite(k) & (excess[-1] > 0)
    ordered = torch.cat([ordered[: n - tail], torch.where(usable, replaced, ordered[n - tail :])])
    log_w = torch.empty_like(ordered).scatter_(0, order, ordered)
    return log_w - log_w.logsumexp(0), torch.where(usable, k, torch.where(excess[-1] > 0, math.inf, -math.inf))


def fit_pareto(excess: Tensor) -> tuple[Tensor, Tensor]:
    """Shape k and scale sigma of a generalised Pareto distribution, for ascending excesses `(tail, columns)` over a
    threshold; with the weak prior of Vehtari et al. 2024 (appendix C) that pulls k towards 1/2."""
    n = len(excess)
    trials = 30 + int(n**0.5)
    x = excess.clamp_min(1e-300)
    quarter, largest = x[int(n / 4 + 0.5) - 1], x[-1]
    j = torch.arange(1, trials + 1, dtype=torch.float64)[:, None]
    theta = 1 / largest + (1 - (trials / (j - 0.5)).sqrt()) / (3 * quarter)
    k = torch.stack([torch.log1p(-b * x).mean(0) for b in theta])
    profile = n * ((-theta / k).log() - k - 1)
    weights = torch.softmax(profile, 0)
    b = (weights * theta).sum(0)
    shape = torch.log1p(-b * x).mean(0)
    sigma = -shape / b
    return (n * shape + 5) / (n + 10), sigma
