r"""Does a fitted law predict data that it was not given? Cross-validation with the hyperparameters held.

Up to a thousand data are left out one at a time, in closed form (Rasmussen & Williams 2006, eqs. 5.10 to 5.12; Dubrule
1983):

    mu_i = y_i - [K^{-1} y]_i / [K^{-1}]_ii,    sigma_i^2 = 1 / [K^{-1}]_ii,

with the trend's functions part of K. Of more data random tenths are held out and predicted from the others. Compact
blocks are held out as well: they tell of gaps rather than of neighbours. Predictions are of data, so that noise is part
of their variance.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from scipy.special import chdtr, chdtrc, ndtr, ndtri
from torch import Generator, Tensor

from infield.posterior.kriging.adequacy import WHITE
from infield.posterior.kriging.family import TREND_SD
from infield.posterior.kriging.fitted import FittedField
from infield.posterior.kriging.law import JITTER
from infield.posterior.kriging.local import moments
from infield.posterior.kriging.observations import Observations, evenly
from infield.posterior.kriging.outliers import SIGNIFICANT, outlying
from infield.posterior.kriging.rivals import rivals
from infield.posterior.kriging.verdict import Verdict

CLOSED_FORM = 1000
"""Up to so many data leaving one out is done in closed form."""

FOLDS, PREDICTED = 10, 150
"""Random folds, and data of each that are predicted."""

BLOCKS = 8
"""Compact blocks, a part of which is held out."""

LEVELS = (0.5, 0.8, 0.9, 0.95)
"""Central intervals whose coverage is counted."""


@dataclass(frozen=True)
class Validation:
    """Predictions of held-out data.

    Arguments:
        z: Errors in predicted standard deviations, shape `(predictions,)`.
        rmse: Root mean square error, in units of the field; noise of the held-out data included.
        coverage: Share of the held-out data in central intervals, by level.
        blocked_rmse: The same error where compact blocks are held out.
        blocked_coverage: And the coverage.
        how: Description of how data were held out.
    """

    z: Tensor
    rmse: float
    coverage: dict[float, float]
    blocked_rmse: float
    blocked_coverage: dict[float, float]
    how: str

    @property
    def count(self) -> int:
        """Number of predictions."""
        return len(self.z)

    def to_json(self) -> dict[str, Any]:
        """For the file and the report."""
        return {
            "how": self.how,
            "held_out": self.count,
            "rmse": self.rmse,
            "coverage": {f"{100 * level:g}": share for level, share in self.coverage.items()},
            "blocked_rmse": self.blocked_rmse,
            "blocked_coverage": {f"{100 * level:g}": share for level, share in self.blocked_coverage.items()},
            "parameters": "held",
        }


def validate(field: FittedField, *, seed: int = 0) -> Validation:
    """Predict held-out data of every channel under the most probable hyperparameters.

    Arguments:
        field: With at least two data more than its trend has terms.
        seed: Seed of the choice of data.
    """
    state = field.most_probable
    errors, deviations, blocked = [], [], []
    closed = all(len(data) <= CLOSED_FORM for data in field.data.channels)
    for c in range(len(field.data.channels)):
        data = field.measured(c, state)
        if closed:
            error, sd = leave_one_out(field, data)
        else:
            error, sd = _held_out(field, data, c, _random_folds(len(data), seed))
        errors.append(error)
        deviations.append(sd)
        blocked.append(_held_out(field, data, c, _compact_folds(state.law.embed(data.x), seed)))
    error, z = torch.cat(errors), torch.cat(errors) / torch.cat(deviations)
    of_blocks = torch.cat([e for e, _ in blocked])
    z_blocks = of_blocks / torch.cat([sd for _, sd in blocked])
    how = "one datum at a time, in closed form" if closed else f"{FOLDS} random tenths, {PREDICTED} data of each"
    return Validation(z, _rms(error), _coverage(z), _rms(of_blocks), _coverage(z_blocks), how)


def _rms(error: Tensor) -> float:
    return float(error.square().mean().sqrt())


def _coverage(z: Tensor) -> dict[float, float]:
    return {level: float((z.abs() <= ndtri((1 + level) / 2)).double().mean()) for level in LEVELS}


def prior_covariance_of_data(field: FittedField, data: Observations) -> Tensor:
    """K of the data, with noise and with trend and shared errors integrated out; shape `(n, n)`."""
    z = field.fit.law.embed(data.x)
    F = data.design * data.terms_sd(TREND_SD * field.fit.scale)
    return field.fit.law.between(z, z) + torch.diag(data.noise + JITTER * field.fit.law.variance) + F @ F.mT


def _inverse(field: FittedField, data: Observations) -> Tensor:
    return torch.cholesky_inverse(torch.linalg.cholesky(prior_covariance_of_data(field, data)))


def _precisions(field: FittedField) -> list[tuple[Tensor, Tensor]]:
    """Inverse covariance of the data of each channel, and the data; none where they are many."""
    channels = [field.measured(c, field.most_probable) for c in range(len(field.data.channels))]
    if any(len(data) > CLOSED_FORM for data in channels):
        return []
    return [(_inverse(field, data), data.y) for data in channels]


def leave_one_out(field: FittedField, data: Observations) -> tuple[Tensor, Tensor]:
    """Errors and standard deviations of predictions of each datum from all others, shape `(n,)` both."""
    inverse = _inverse(field, data)
    precision = inverse.diagonal()
    return (inverse @ data.y) / precision, precision.rsqrt()


def whitened(field: FittedField, data: Observations) -> Tensor:
    """L^{-1} y of at most `CLOSED_FORM` data: independent standard normal numbers where the law is right, `(n,)`."""
    if len(data) > CLOSED_FORM:
        data = data.at(evenly(len(data), CLOSED_FORM))
    L = torch.linalg.cholesky(prior_covariance_of_data(field, data))
    return torch.linalg.solve_triangular(L, data.y[:, None], upper=False)[:, 0]


def _random_folds(n: int, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Held-out data, and those of them that are predicted."""
    order = torch.randperm(n, generator=Generator().manual_seed(seed))
    for fold in order.tensor_split(FOLDS):
        yield fold, fold[:PREDICTED]


def _compact_folds(z: Tensor, seed: int) -> Iterator[tuple[Tensor, Tensor]]:
    """Compact blocks of about a thirtieth of the data: neighbours of random data."""
    generator = Generator().manual_seed(seed + 1)
    size = max(len(z) // 30, 1)
    for centre in torch.randperm(len(z), generator=generator)[:BLOCKS]:
        fold = (z - z[centre]).square().sum(1).argsort(stable=True)[:size]
        yield fold, fold[:: max(size // PREDICTED, 1)]


def _held_out(
    field: FittedField, data: Observations, channel: int, folds: Iterable[tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """Errors and standard deviations of predictions of folds from all data outside of them."""
    coefficients, errors, deviations = field.fit.coefficients[channel], [], []
    for fold, predicted in folds:
        kept = torch.ones(len(data), dtype=torch.bool)
        kept[fold] = False
        found = moments(
            field.fit.law, data.at(kept), data.x[predicted], data.design[predicted], coefficients, neighbours=_few(kept)
        )
        errors.append(data.y[predicted] - found.mean)
        deviations.append((found.variance + data.noise[predicted]).sqrt())
    return torch.cat(errors), torch.cat(deviations)


def _few(kept: Tensor) -> int:
    return min(int(kept.sum()), 100)


def verdict(field: FittedField, validation: Validation | None) -> Verdict:
    """Judge a fit by its warnings, its whitened residuals, its predictions of held-out data, and rivals of its file."""
    if field.fit.warnings:
        return Verdict(0, "; ".join(field.fit.warnings))
    failed = [words for p, words in _checks(field, validation) if p < SIGNIFICANT]
    if validation is not None:
        failed += rivals(field) + outlying(field, validation.z, lambda: _precisions(field))
    if validation is None:
        return Verdict(0, failed[0]) if failed else Verdict("unchecked", "no held-out data were predicted")
    tails = _heavy_tails(validation)
    if failed:
        return Verdict(0, "; ".join([*failed, *tails]))
    held = [f"90 % intervals hold {100 * validation.coverage[0.9]:.0f} % of {validation.count} held-out data"]
    if field.fit.log_bayes_factor < WHITE:
        held.append("the data hardly distinguish a field from white noise")
    return Verdict(1, "; ".join([*held, *tails]))


def _heavy_tails(validation: Validation) -> list[str]:
    """Remarks if errors are not Gaussian: intervals of the right coverage may still miss the extremes."""
    if validation.count < 20:
        return []
    z = validation.z - validation.z.mean()
    kurtosis = float(z.pow(4).mean() / z.square().mean().square()) - 3
    if kurtosis <= math.sqrt(24 / validation.count):  # one standard deviation of a Gaussian's, which is not significant
        return []
    from scipy.stats import kurtosistest  # half a second of a processor

    if float(kurtosistest(validation.z.numpy()).pvalue) > SIGNIFICANT:
        return []
    return [f"errors have heavier tails than a Gaussian (excess kurtosis {kurtosis:.1f}): extremes are underestimated"]


def _checks(field: FittedField, validation: Validation | None) -> Iterator[tuple[float, str]]:
    """Probability of each check under a right law, and what is wrong where it is small."""
    state = field.most_probable
    u = torch.cat([whitened(field, field.measured(c, state)) for c in range(len(field.data.channels))])
    free = sum(data.design.shape[1] for data in field.data.channels)
    dof = max(len(u) - free, 1)
    total = float(u.square().sum())
    two_sided = 2 * min(float(chdtrc(dof, total)), float(chdtr(dof, total)))
    yield two_sided, f"the data scatter {total / dof:.2g} times as much as model and noise imply (chi-square per datum)"
    if validation is None:
        return
    n, held = validation.count, validation.coverage[0.9]
    z = (held - 0.9) / math.sqrt(0.09 / n)
    yield 2 * float(ndtr(-abs(z) / DEPENDENCE)), f"90 % intervals hold {100 * held:.0f} % of {n} held-out data"


DEPENDENCE = 1.4
"""By how much predictions that share neighbours scatter more than independent ones, in standard deviations."""
