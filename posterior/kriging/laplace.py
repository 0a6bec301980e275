r"""Draws of the hyperparameters of a law fitted to many data, by Laplace's approximation, where they matter.

About the mode the posterior is nearly N(theta, C), C the inverse curvature of the log posterior (Tierney & Kadane 1986,
J. Am. Stat. Assoc. 81, 82): no further evaluation of the evidence is needed to draw. Draws come in pairs theta +- r L u
with C = L L^T, directions u orthogonal in groups and radii r at quantiles of the chi distribution, so that few of them
have the moments of many (orthogonal random numbers: Yu et al. 2016, arXiv:1610.09072).

Plugging the mode in suffices where the posterior of the field hardly depends on what the data leave open of theta: near
many data. Far from them it does depend on it. `unsettled` measures it on some targets.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from scipy.special import gammaincinv
from torch import Generator, Tensor

from infield.posterior.kriging.fit import ALL_TERMS, Fit, Fitting, Settings
from infield.posterior.kriging.hyperparameters import STREAM, Chain, tamed
from infield.posterior.kriging.local import Moments, moments
from infield.posterior.kriging.observations import Observations, noise_variances

NEAR = 100
"""Data a target where hyperparameters are varied."""


def unsettled(fit: Fit, channels: Sequence[Observations], targets: Tensor, designs: Sequence[Tensor]) -> float:
    """How much the field's posterior depends on what the data leave open of the hyperparameters.

    Arguments:
        fit: To the data.
        channels: Data of each channel around the fit's centre, in units of the field, with the noise variances of the
            file (those of the fit's factor 1).
        targets: Some positions, shape `(m, ndim)`.
        designs: Trend functions there for each channel, shape `(m, terms)`.

    Returns:
        Standard deviation of the log of the posterior's standard deviation, root mean square over the targets; the part
        of hyperparameters in the variance counts by half its share, which is what it adds to that log.
    """
    root, k = _root(fit), len(fit.theta)

    def at(theta: Tensor, c: int) -> Moments:
        data = channels[c]
        noise = noise_variances(data.noise, fit.noise_factor_at(theta))
        own = Observations(data.x, data.y, noise, data.design, data.prior_sd)
        near = min(NEAR, len(data))
        law = fit.family.law(theta, fit.scale)
        return moments(law, own, targets, designs[c], fit.coefficients[c], neighbours=near)

    total = torch.zeros(len(targets), dtype=torch.float64)
    for c in range(len(channels)):
        variance = at(fit.theta, c).variance
        shift, spread = torch.zeros_like(variance), torch.zeros_like(variance)
        for axis in range(k):
            up, down = (at(fit.theta + sign * root[:, axis], c) for sign in (1.0, -1.0))
            shift += ((up.mean - down.mean) / 2).square()
            spread += (0.25 * (up.variance / down.variance).log()).square()
        total += spread + (0.5 * shift / variance).square()
    return float((total / len(channels)).mean().sqrt())


def about_the_mode(fit: Fit, channels: Sequence[Observations], *, noise_known: bool, states: int, seed: int) -> Chain:
    """Draw hyperparameters from N(theta, C), the order as it was fitted; arguments as `hyperparameters.sample`."""
    fitting = Fitting(channels, fit.family.geometry, noise_known, Settings(seed=seed))
    theta = fit.theta + _directions(len(fit.theta), states, seed) @ _root(fit).mT
    evidence = fitting.evidence(fit.family, fit.theta, ALL_TERMS)
    coefficients = tuple(tuple(c.scaled(fit.scale) for c in evidence.coefficients(t)) for t in theta)
    return Chain(
        theta,
        (fit.family,) * states,
        tuple(fit.family.law(t, fit.scale) for t in theta),
        torch.stack([torch.as_tensor(fit.noise_factor_at(t), dtype=torch.float64) for t in theta]),
        coefficients,
        float(states),
        states,
        {fit.family.nu: 1.0},
    )


def _root(fit: Fit) -> Tensor:
    return torch.linalg.cholesky(tamed(fit.covariance, fit.family))


def _directions(k: int, n: int, seed: int) -> Tensor:
    """Standard normal numbers of dimension k, n of them: pairs of opposite ones, orthogonal in groups."""
    generator = Generator().manual_seed(int(np.random.SeedSequence([seed, STREAM]).generate_state(1, np.uint32)[0]))
    pairs = math.ceil(n / 2)
    groups = []
    for _ in range(math.ceil(pairs / k)):
        Q, R = torch.linalg.qr(torch.randn((k, k), generator=generator, dtype=torch.float64))
        groups.append((Q * R.diagonal().sign()).mT)  # the signs that LAPACK gives taken out
    u = torch.cat(groups)[:pairs]
    places = (torch.randperm(pairs, generator=generator) + 0.5) / pairs
    r = torch.from_numpy(np.sqrt(2 * gammaincinv(k / 2, places.numpy())))
    return torch.stack([r[:, None] * u, -r[:, None] * u], 1).flatten(0, 1)[:n]
