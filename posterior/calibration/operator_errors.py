r"""Is the operator what the file states? For Gaussian priors and few data, by the errors that an operator declares.

An operator declares directions in which it may be wrong (`perturbations`: coil maps by smooth factors, a blur by its
width): changes B of the noiseless data of a field x. In the coordinates of `evidence`, where the data are
e ~ N(0, 1 + lambda), they are split by fission with w ~ N(0, 1)
and t = 4, so that most of what they say is left for the test,

    e_a = e + sqrt(t) w,    e_b = e - w / sqrt(t),    e_b | e_a ~ N(lambda e_a / (lambda + 1 + t), v),
    v = lambda + 1 + 1 / t - lambda^2 / (lambda + 1 + t).

With x the posterior mean given e_a, directions G = U^T L^{-1} B depend on e_a alone, so that the score (Rao 1948)

    s^T S^+ s,    s = G^T v^{-1} (e_b - lambda e_a / (lambda + 1 + t)),    S = G^T v^{-1} G,

is chi^2 with rank S degrees of freedom, exactly, where operator, prior and noise are right.
"""

from __future__ import annotations

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

FISSION = 4.0
"""t: variance that is added to the data from which the field is estimated, in those of the noise."""

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
        score = vectors[:, kept].mT @ (G.mT @ (precision * residual))
        rank = int(kept.sum())
        p[kind] = float(stats.chi2.sf(float((score.square() / values[kept]).sum()), rank))
        seen[kind] = _smallest(rank, float(values[kept].sum()), ALARM / len(kinds))
    least = min(p, key=lambda kind: p[kind])
    return OperatorTest(min(1.0, len(kinds) * p[least]), least, seen)


def _with_noise(measurement: Measurement, whitened: WhitenedData, w: Tensor) -> Measurement:
    """The first part of the fission: the data with further noise, 1 + t times the variance."""
    more = torch.zeros_like(measurement.y).flatten()
    more[whitened.index] = (whitened.L @ (whitened.U @ w)).to(more)
    noise = measurement.noise.of_mean(1 / (1 + FISSION))
    return replace(measurement, y=measurement.y + more.reshape(measurement.y.shape), noise=noise, truth=None,
                   digest=None, source=None)  # fmt: skip


def _smallest(rank: int, information: float, alarm: float) -> float | None:
    """Relative error whose expected noncentrality is found with 80 % power."""
    limit = stats.chi2.isf(alarm, rank)
    if information <= 0:
        return None

    def lacking(noncentrality: float) -> float:
        return float(stats.ncx2.sf(limit, rank, noncentrality)) - POWER

    needed = optimize.brentq(lacking, 1e-6, 100 * (limit + rank))
    error = float((needed / information) ** 0.5)
    return error if error <= LARGEST_ERROR else None
