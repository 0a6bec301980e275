r"""Do the data have the law that prior, operator and noise give them? For Gaussian priors and few data, in closed form.

With K the prior covariance of the noiseless data and R = L L^T that of the noise,

    L^{-1} K L^{-T} = U diag(lambda) U^T,    e = U^T L^{-1} (y - A m) ~ N(0, 1 + lambda) where all is right.

Noise level c and width of the prior s are judged by the likelihood ratio (Wilks 1938)

    2 max_{c, s} log p(e | c^2 + s^2 lambda) - 2 log p(e | 1 + lambda) ~ chi^2 with 2 degrees of freedom,

and the shape of the prior by sums of e^2 / (1 + lambda) over six groups of directions of like lambda, which are chi^2.

The p-value is the least of the seven times seven.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from scipy import stats
from torch import Tensor

from infield.physics.measurement import Measurement
from infield.posterior.inference.linear_gaussian import DENSE_ENTRIES, LinearGaussianData
from infield.priors.base import FlowPrior

MAX_DATA = 2000
"""Up to this many data the eigenvalues of their covariance take seconds."""

GROUPS = 6

FACTORS = torch.logspace(-1.2, 1.2, 97, dtype=torch.float64)
"""Factors of standard deviations that are tried, a sixteenth apart from 1/16 to 16; 1 is among them."""


@dataclass(frozen=True)
class EvidenceTest:
    """Result of the test.

    Arguments:
        p: p-value.
        noise_factor: Most probable factor of the noise's standard deviation.
        width_factor: And of the prior's.
        log_evidence: Of the data under prior, operator and noise as they are stated.
        because: What is wrong; empty if nothing is.
    """

    p: float
    noise_factor: float
    width_factor: float
    log_evidence: float
    because: str


@dataclass(frozen=True)
class WhitenedData:
    """Data in the coordinates of the test.

    Arguments:
        e: The data, shape `(data,)`.
        eigenvalues: lambda, shape `(data,)`, ascending.
        U, L: Of the coordinates, shape `(data, data)`.
        index: Flat places of the data among the entries of y.
        log_evidence: Of the data.
    """

    e: Tensor
    eigenvalues: Tensor
    U: Tensor
    L: Tensor
    index: Tensor
    log_evidence: float

    def of_data(self, changes: Tensor) -> Tensor:
        """U^T L^{-1} B of changes of the data `(k, *data)`, shape `(data, k)`."""
        B = changes.flatten(1)[:, self.index].mT.to(self.L)
        return self.U.mT @ torch.linalg.solve_triangular(self.L, B, upper=False)


def whitened_data(prior: FlowPrior, measurement: Measurement) -> WhitenedData | None:
    """Data of a Gaussian prior; None where the closed form is not to be had.

    Arguments:
        prior: On the measurement's grid.
        measurement: Linear data with Gaussian noise, few enough to form their covariance.
    """
    if not getattr(prior, "gaussian", False) or not measurement.linear_gaussian:
        return None
    data = LinearGaussianData(measurement.pullback(prior.standardisation), prior.source.modes)
    few = data.dense or data.by_sensors(prior.covariance)
    few = few or (measurement.count <= MAX_DATA and measurement.count * prior.mean.numel() <= DENSE_ENTRIES)
    if not few or measurement.count < 2 * GROUPS:
        return None
    whole, R = data.factorise(prior.covariance), data.noise_matrix
    L = torch.linalg.cholesky(R)
    r = data.misfit(prior.mean[None]).flatten(1)[0, data.index]
    K = whole @ whole.mT - R
    M = torch.linalg.solve_triangular(L, torch.linalg.solve_triangular(L, K, upper=False).mT, upper=False)
    eigenvalues, U = torch.linalg.eigh((M + M.mT) / 2)
    e = U.mT @ torch.linalg.solve_triangular(L, r[:, None], upper=False)[:, 0]
    eigenvalues = eigenvalues.clamp_min(0)
    chi = (2 * math.pi * (1 + eigenvalues)).log() + e.square() / (1 + eigenvalues)
    return WhitenedData(e, eigenvalues, U, L, data.index, float(-0.5 * chi.sum() - L.diagonal().log().sum()))


def evidence_test(prior: FlowPrior, measurement: Measurement) -> EvidenceTest | None:
    """Test a Gaussian prior by data; None where the closed form is not to be had. Arguments as `whitened_data`."""
    whitened = whitened_data(prior, measurement)
    return None if whitened is None else judge(whitened)


def judge(whitened: WhitenedData) -> EvidenceTest:
    """Test a Gaussian prior by whitened data."""
    e, eigenvalues, log_evidence = whitened.e, whitened.eigenvalues, whitened.log_evidence

    def log_p(c: Tensor, s: Tensor) -> Tensor:
        variance = c.square()[..., None] + s.square()[..., None] * eigenvalues
        return -0.5 * (variance.log() + e.square() / variance).sum(-1)

    one = torch.ones((), dtype=torch.float64)
    table = torch.stack([log_p(c, FACTORS) for c in FACTORS])
    i, j = divmod(int(table.argmax()), len(FACTORS))
    c, s = float(FACTORS[i]), float(FACTORS[j])
    p_factors = float(stats.chi2.sf(2 * max(float(table[i, j] - log_p(one, one)), 0.0), 2))
    squares = (e.square() / (1 + eigenvalues)).tensor_split(GROUPS)  # in the order of lambda
    p_groups = []
    for group in squares:
        total, n = float(group.sum()), len(group)
        p_groups.append(min(2 * min(stats.chi2.sf(total, n), stats.chi2.cdf(total, n)), 1.0))
    p = min(1.0, (GROUPS + 1) * min(p_factors, *p_groups))
    findings = []
    if p_factors <= min(p_groups) * 100:
        findings.append(f"the data favour noise {c:.2g} times as large and a prior {s:.2g} times as wide")
    if min(p_groups) <= p_factors:
        k = p_groups.index(min(p_groups))
        share = float(squares[k].mean())
        scale = "best" if k >= GROUPS - 1 else "least" if k == 0 else "moderately"
        findings.append(
            f"directions that are {scale} determined scatter {share:.2g} times as much as prior and noise imply"
        )
    return EvidenceTest(p, c, s, log_evidence, "; ".join(findings))
