r"""Is the operator what the file states? For Gaussian priors and few data, by the errors that an operator declares.

An operator declares directions in which it may be wrong (`perturbations`: coil maps by smooth factors, a blur by its
width): changes B of the noiseless data of a field x. In the coordinates of `evidence`, where the data are
e ~ N(0, 1 + lambda), they are split by fission with w ~ N(0, 1)
and t = 16, so that most of what they say is left for the test,

    e_a = e + sqrt(t) w,    e_b = e - w / sqrt(t),    e_b | e_a ~ N(lambda e_a / (lambda + 1 + t), v),
    v = lambda + 1 + 1 / t - lambda^2 / (lambda + 1 + t).

With x the posterior mean given e_a, directions G = U^T L^{-1} B depend on e_a alone, so that the score

    s = G^T v^{-1} (e_b - lambda e_a / (lambda + 1 + t)) ~ N(0, S),    S = G^T v^{-1} G = V diag(mu) V^T,

exactly, where operator, prior and noise are right. Amplitudes a ~ N(0, tau^2) of the errors make it
N(0, S + tau^2 S^2); the likelihood ratio of the two is a function of

    q = sum_i tau^2 mu_i / (1 + tau^2 mu_i) (V^T s)_i^2 / mu_i,

a sum of chi^2 with one degree of freedom each, whose weights leave out errors that the data could not show (a test of
variance components: Lin 1997, Biometrika 84, 309). Its distribution is computed by Imhof's integral (1961, Biometrika
48, 419, eq. 3.2), far out in its tail by a saddlepoint (Kuonen 1999, Biometrika 86, 929).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from scipy import optimize, stats
from torch import Generator, Tensor

from infield.physics.measurement import Measurement
from infield.posterior.calibration.evidence import WhitenedData
from infield.posterior.samplers.exact import posterior_mean
from infield.priors.base import FlowPrior

ALARM = 0.005
"""p-value below which an operator is said to be wrong."""

FISSION = 16.0
"""t: variance that is added to the data from which the field is estimated, in those of the noise."""

AMPLITUDE = 0.05
"""tau: relative error for which the test is the most powerful."""

POWER = 0.8
LARGEST_ERROR = 1.0
"""Relative error above which none is named as the smallest that is found."""


@dataclass(frozen=True)
class OperatorTest:
    """Result of the test.

    Arguments:
        p: Least p-value, times the number of kinds of errors.
        kind: Kind of error that it belongs to, in words.
        seen: Smallest relative error of each kind that is found with 80 % power; None where none below 1 is.
    """

    p: float
    kind: str
    seen: Mapping[str, float | None]


def operator_test(
    whitened: WhitenedData, prior: FlowPrior, measurement: Measurement, generator: Generator
) -> OperatorTest | None:
    """Test an operator by the errors that it declares; None where it declares none.

    Arguments:
        whitened: The data in the coordinates of `evidence`.
        prior: Gaussian.
        measurement: Of an operator with `perturbations`.
        generator: Of the fission.
    """
    operator = measurement.operator
    if not hasattr(operator, "perturbations"):
        return None
    e, eigenvalues = whitened.e, whitened.eigenvalues
    w = torch.randn(e.shape, generator=generator, dtype=e.dtype)
    first, second = e + FISSION**0.5 * w, e - w / FISSION**0.5
    x = posterior_mean(prior, _with_noise(measurement, whitened, FISSION**0.5 * w))
    known = eigenvalues / (eigenvalues + 1 + FISSION)
    residual, precision = second - known * first, 1 / (eigenvalues + 1 + 1 / FISSION - eigenvalues * known)
    kinds: dict[str, Tensor] = operator.perturbations(x[None].to(measurement.y))
    p, seen = {}, {}
    for kind, changes in kinds.items():
        G = whitened.of_data(changes)
        S = G.mT @ (precision[:, None] * G)
        values, vectors = torch.linalg.eigh((S + S.mT) / 2)
        kept = values > 1e-9 * values[-1].clamp_min(1e-300)
        score, mu = vectors[:, kept].mT @ (G.mT @ (precision * residual)), values[kept]
        weights = AMPLITUDE**2 * mu / (1 + AMPLITUDE**2 * mu)
        p[kind] = exceeded(weights, float((weights * score.square() / mu).sum())) if len(mu) else 1.0
        seen[kind] = _smallest(weights, mu, ALARM / len(kinds))
    least = min(p, key=lambda kind: p[kind])
    return OperatorTest(min(1.0, len(kinds) * p[least]), least, seen)


def _with_noise(measurement: Measurement, whitened: WhitenedData, w: Tensor) -> Measurement:
    """The first part of the fission: the data with further noise, 1 + t times the variance."""
    more = torch.zeros_like(measurement.y).flatten()
    more[whitened.index] = (whitened.L @ (whitened.U @ w)).to(more)
    noise = measurement.noise.of_mean(1 / (1 + FISSION))
    return replace(measurement, y=measurement.y + more.reshape(measurement.y.shape), noise=noise, truth=None,
                   digest=None, source=None)  # fmt: skip


def exceeded(weights: Tensor, q: float, noncentrality: Tensor | None = None) -> float:
    """Probability that a sum of squares of independent normal numbers of variance one, with weights, is larger than q.

    Imhof's integral over u in (0, infinity) of sin(theta) / (pi u rho), plus one half, by the trapezoidal rule in
    log u, to about 1e-6; for large q, where it oscillates too fast, a saddlepoint, to some per cent of the probability.
    One square alone, whose integrand falls too slowly, is chi^2.

    Arguments:
        weights: Positive, shape `(n,)`.
        q: At least 0.
        noncentrality: Squares of the means, shape `(n,)`; None for zeros.
    """
    w = weights.to(torch.float64) / weights.max()
    delta = torch.zeros_like(w) if noncentrality is None else noncentrality.to(w)
    q, kept = max(q / float(weights.max()), 0.0), w > 1e-9
    w, delta = w[kept], delta[kept]
    if len(w) == 1:
        return float(stats.ncx2.sf(q, 1, float(delta)) if float(delta) > 0 else stats.chi2.sf(q, 1))
    if q > (6 if len(w) < 8 else 3) * float((w * (1 + delta)).sum()):
        return _far(w, delta, q)
    decade = 2000 if len(w) < 8 else 200  # points; the integrand falls as u^(-n / 2), and oscillates
    decades = 24 if len(w) < 8 else 12
    u = torch.logspace(-decades / 2, decades / 2, decades * decade + 1, dtype=torch.float64) / max(q, float(w.sum()))
    theta, log_rho = -0.5 * q * u, torch.zeros_like(u)
    for one, d in zip(w, delta, strict=True):
        squared = (one * u).square()
        theta += 0.5 * (torch.atan(one * u) + d * one * u / (1 + squared))
        log_rho += 0.25 * torch.log1p(squared) + 0.5 * d * squared / (1 + squared)
    step = math.log(10) / decade  # du / u is d log u
    return min(max(0.5 + float((torch.sin(theta) * torch.exp(-log_rho)).sum()) * step / math.pi, 0.0), 1.0)


def _far(w: Tensor, delta: Tensor, q: float) -> float:
    """The same by Kuonen's saddlepoint; weights are at most one, and q is above the mean."""

    def K(z: float, derivative: int) -> float:
        a = 1 - 2 * z * w
        parts = (
            -0.5 * a.log() + delta * w * z / a,
            w / a + delta * w / a.square(),
            2 * w.square() / a.square() + 4 * delta * w.square() / a**3,
        )
        return float(parts[derivative].sum())

    z = optimize.brentq(lambda z: K(z, 1) - q, 0.0, 0.5 * (1 - 1e-13))
    distance = math.sqrt(2 * (z * q - K(z, 0)))
    return float(stats.norm.sf(distance + math.log(z * math.sqrt(K(z, 2)) / distance) / distance))


def _smallest(weights: Tensor, mu: Tensor, alarm: float) -> float | None:
    """Relative error, alike in all directions, that is found with 80 % power."""
    if not len(mu):
        return None
    limit = optimize.brentq(lambda q: exceeded(weights, q) - alarm, 0.0, 100.0 * float(weights.sum()), rtol=1e-3)

    def lacking(log_error: float) -> float:
        return exceeded(weights, limit, math.exp(2 * log_error) * mu) - POWER

    if lacking(math.log(LARGEST_ERROR)) < 0:
        return None
    return math.exp(optimize.brentq(lacking, math.log(1e-6), math.log(LARGEST_ERROR), xtol=1e-2))
