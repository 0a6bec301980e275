r"""Laplace's approximation: the MAP field, and a low-rank Gauss-Newton Hessian at it.

At a field u* the log-likelihood is approximated by

    log p(y | u) ~ log p(y | u*) + g^T (u - u*) - (u - u*)^T J^T W J (u - u*) / 2,

J the Jacobian of A, W the information of the noise model (R^{-1} where it is Gaussian), g the gradient at u*. Data
inform few directions of a field: J^T W J = L^T L with few rows L, found by a randomised projection (Halko, Martinsson &
Tropp 2011, algorithm 4.1; for inverse problems Bui-Thanh et al. 2013, arXiv 1308.1313) in the coordinates that whiten
the prior. Under N(m, K), K = S S^T, and in the coordinates w = S^{-1} (u - m), the posterior of the linearised data is

    N(w_hat, Gamma),   Gamma = (1 + H)^{-1},   H = S^T J^T W J S,   w_hat = Gamma S^T (g + J^T W J (u* - m)).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Generator, Tensor

from infield.core.eigenvectors import orthonormal
from infield.core.errors import InfieldError
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import GaussianNoiseModel
from infield.posterior.inference.likelihood import information, only_observed, rows_of_jacobian, value_and_gradient
from infield.posterior.inference.whitening import Whitening

DIFFERENCE = 1e-3
"""Length of the difference by which J is applied, in prior standard deviations along a direction."""

MAX_LINEARISATIONS, MAX_STEPS, MAX_BACKTRACKS, GAIN_TOL = 12, 8, 12, 0.05
"""Of the search: linearisations, steps with each, halvings of a step, and the gain a datum below which it ends."""

TEMPERING = 10.0
"""The search weighs the likelihood by this over the reduced chi-square, at most by 1: with the noise of data that a
linearisation so far away can be trusted to fit (iteratively regularised Gauss-Newton; Bakushinskii 1992)."""

MAX_SLOPE = 5.0
"""A slope is too long where it is this many times its usual length under the linearised posterior."""

INITIAL_RANK = 64
"""Directions that a linearisation tries first."""

RADIUS = 3.0
"""Longest step of the search, as a multiple of 1 + sqrt(informed directions), in prior standard deviations."""

INFORMED = 0.5
"""Root of the number of informed directions below which the data count as uninformative where the search ended."""


@dataclass(frozen=True)
class Linearisation:
    """The quadratic model of the log-likelihood at one field.

    Arguments:
        at: u*, shape `(1, channel, *space)`.
        gradient: g, same shape.
        rows: L in the modes' coordinates, shape `(rank, modes)`.
    """

    at: Tensor
    gradient: Tensor
    rows: Tensor


@dataclass(frozen=True)
class LaplaceApproximation:
    """The posterior of the linearised data under N(m, K), in the coordinates that whiten K.

    Arguments:
        data: The linearisation.
        whitening: S.
    """

    data: Linearisation
    whitening: Whitening

    @cached_property
    def _pulled(self) -> Tensor:
        return self.whitening.pull_back(self.data.rows)

    @cached_property
    def _spectrum(self) -> tuple[Tensor, Tensor]:
        """Eigenvalues of H, shape `(rank,)`, and eigenvectors in rows."""
        _, singular, V = torch.linalg.svd(self._pulled, full_matrices=False)
        return singular**2, V

    @cached_property
    def informed(self) -> float:
        """Root of the number of directions that the data inform, each by its share e / (1 + e)."""
        e, _ = self._spectrum
        return float((e / (1 + e)).sum().sqrt())

    @cached_property
    def longest(self) -> float:
        """The longest slope of log pi that the linearisation accounts for, in the metric of Gamma."""
        e, _ = self._spectrum
        return MAX_SLOPE * (1 + len(e) ** 0.5)

    def within(self, w: Tensor) -> Tensor:
        """The part of w in the directions of H."""
        _, V = self._spectrum
        return w @ V.mT @ V

    def hessian(self, w: Tensor) -> Tensor:
        """H w, shape `(batch, modes)`."""
        e, V = self._spectrum
        return (w @ V.mT * e) @ V

    def covariance(self, w: Tensor) -> Tensor:
        """Gamma w."""
        e, V = self._spectrum
        return w - (w @ V.mT * (e / (1 + e))) @ V

    def root(self, w: Tensor) -> Tensor:
        """Gamma^{1/2} w."""
        e, V = self._spectrum
        return w + (w @ V.mT * ((1 + e).rsqrt() - 1)) @ V

    def mean(self, m: Tensor) -> Tensor:
        """w_hat for means m of shape `(batch, channel, *space)`, shape `(batch, modes)`."""
        away = self.whitening.covariance.modes.analyse(self.data.at - m).flatten(1)
        return self.covariance(self.whitening.transpose(self.data.gradient) + away @ self.data.rows.mT @ self._pulled)


def linearise(
    measurement: Measurement,
    at: Tensor,
    gradient: Tensor,
    whitening: Whitening,
    rank: int,
    *,
    weight: float = 1.0,
    first: int = INITIAL_RANK,
) -> Linearisation:
    """The quadratic model at a field.

    Directions are added, by doubling, until the data inform the last one less than the prior, so that a rank of r costs
    at most 2 r backward and 2 r forward passes and a few. It is exact, up to the curvature of A along a difference,
    where there are no more data than directions.

    Arguments:
        measurement: Any operator, any noise model.
        at: u*, shape `(1, channel, *space)`.
        gradient: g there.
        whitening: Of the prior.
        rank: Largest number of directions.
        weight: Of the likelihood, against which the prior is compared.
        first: Number of directions that is tried first.
    """
    z, tried = measurement.operator.A(at), min(first, rank)
    while True:
        e, rows = _spectrum(measurement, at, z, whitening, tried)
        if tried >= min(rank, measurement.count) or weight * e.min() < 1:
            return Linearisation(at, gradient, whitening.push_forward(rows))
        tried = min(2 * tried, rank)


def _spectrum(
    measurement: Measurement, at: Tensor, z: Tensor, whitening: Whitening, rank: int
) -> tuple[Tensor, Tensor]:
    """Leading eigenvalues of H, ascending, and L, in the coordinates that whiten the prior."""
    pulled = whitening.transpose(rows_of_jacobian(measurement, at, _probes(measurement, rank)))
    Q = orthonormal(pulled.mT).mT  # its signs matter: a difference along -q is not the one along q
    JQ = only_observed(measurement, (measurement.operator.A(at + DIFFERENCE * whitening.colour(Q)) - z) / DIFFERENCE)
    gram = JQ.flatten(1) @ information(measurement, z, JQ).flatten(1).mT
    e, W = torch.linalg.eigh((gram + gram.mT) / 2)
    return e, e.clamp_min(0).sqrt()[:, None] * (W.mT @ Q)


def _probes(measurement: Measurement, rank: int) -> Tensor:
    """Data whose pull-backs span what the data inform: every datum if they are few, else random combinations."""
    y = measurement.y[0]
    seen = torch.ones_like(y, dtype=torch.bool) if measurement.observed is None else measurement.observed
    if measurement.count <= rank:
        probes = y.new_zeros((measurement.count, y.numel()))
        probes[torch.arange(measurement.count), seen.flatten().nonzero()[:, 0]] = 1.0
        return probes.reshape(-1, *y.shape)
    signs = torch.randn((rank, *y.shape), generator=Generator().manual_seed(0), dtype=torch.float64).to(y)
    noise = measurement.noise
    return noise.solve(noise.root(signs)) if isinstance(noise, GaussianNoiseModel) else signs


def find_map(measurement: Measurement, mean: Tensor, whitening: Whitening, rank: int) -> Linearisation:
    """The linearisation near the most probable field under N(mean, S S^T), by Gauss-Newton steps with a line search.

    The search starts at the mean. If it ends where the data inform nothing, as u^2 does at zero, it starts once more,
    at a draw of the prior, always the same.

    Arguments:
        measurement: Any operator, any noise model.
        mean: Shape `(1, channel, *space)`.
        whitening: S.
        rank: See `linearise`.

    Raises:
        InfieldError: If the data are impossible under the mean, or the operator refuses it.
    """
    white = torch.zeros((1, mean.numel()), dtype=mean.dtype, device=mean.device)
    value, _ = value_and_gradient(measurement, mean)
    if not torch.isfinite(value).all():
        measurement.log_likelihood(mean)  # an operator that refuses it gives the reason
        raise InfieldError(
            where="the most probable field",
            found=f"log-likelihood {float(value)} at the prior's mean",
            expected="a finite number",
            remedy="give the prior a mean that the data allow (positive for counts)",
        )
    found, best = _search(measurement, mean, whitening, rank, white)
    if LaplaceApproximation(found, whitening).informed < INFORMED:
        draw = torch.randn(white.shape, generator=Generator().manual_seed(0), dtype=torch.float64).to(white)
        draw = whitening.white(draw)
        other, value_there = _search(measurement, mean, whitening, rank, draw)
        if value_there > best:
            return other
    return found


def _search(
    measurement: Measurement, mean: Tensor, whitening: Whitening, rank: int, w: Tensor
) -> tuple[Linearisation, float]:
    """The linearisation where a search from w ends, and log p(y | u) - w^T w / 2 near it."""

    def evaluate(w: Tensor) -> tuple[Tensor, Tensor, float]:
        u = mean + whitening.colour(w)
        value, gradient = value_and_gradient(measurement, u)
        return u, gradient, float(value)

    u, gradient, value = evaluate(w)
    first, enough = INITIAL_RANK, GAIN_TOL * (1 + measurement.count)
    for _ in range(MAX_LINEARISATIONS):
        beta = min(1.0, TEMPERING / max(float(measurement.chi_square(u)), TEMPERING))
        data = linearise(measurement, u, gradient, whitening, rank, weight=beta, first=first)
        first = max(first, len(data.rows))
        posterior = LaplaceApproximation(replace(data, rows=beta**0.5 * data.rows), whitening)
        start = best = beta * value - 0.5 * float(w.square().sum())
        for _ in range(MAX_STEPS):
            before = best
            direction = posterior.covariance(beta * whitening.transpose(gradient) - w)
            direction = direction * (RADIUS * (1 + posterior.informed) / direction.norm()).clamp_max(1.0)
            for halving in range(MAX_BACKTRACKS):
                trial = w + 0.5**halving * direction
                evaluated = evaluate(trial)
                reached = beta * evaluated[2] - 0.5 * float(trial.square().sum())
                if reached > best:
                    w, best, (u, gradient, value) = trial, reached, evaluated
                    break
            if not best > before + enough / MAX_STEPS:
                break
        if beta == 1 and not best > start + enough:
            return data, start
    return linearise(measurement, u, gradient, whitening, rank, first=first), value - 0.5 * float(w.square().sum())
