r"""The error of a model as noise of the data: its law, from errors that were seen.

This is the enhanced error model (Kaipio & Somersalo 2007, "Statistical inverse problems: discretization, model
reduction and inverse crimes").

Data are y = z + e + n with z the model's output, e the error of the model and n ~ N(0, D) the noise of the instrument.
With e taken as Gaussian and independent of the field, n + e has covariance

    R = D + (1 - rho) C + rho diag(C),

C the covariance of K known errors. Few errors determine C in K - 1 directions only and none of them well; the share rho
that goes to the diagonal makes up for it (Schaefer & Strimmer 2005, doi 10.2202/1544-6115.1175, target D). It is the
one under which errors that were left out are most probable.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from infield.physics.noise.registry import GaussianNoise, LowRankGaussianNoise

SHARES = (0.001, 0.003, 0.01, 0.03, 0.1, 0.2, 0.4, 0.7, 1.0)
"""Values of rho that are tried."""

FOLDS = 4
"""Parts of the seen errors, each of which is judged by a law from the others."""


@dataclass(frozen=True)
class ModelError:
    """The law of noise and model error together.

    Arguments:
        noise: N(0, R), for data from which the mean error was taken.
        share: rho.
        chi_square: Reduced chi-square of errors, with noise, under the law from the others: 1 if it is right.
        ratio: Root mean square error of the model over that of the noise, per datum.
    """

    noise: LowRankGaussianNoise
    share: float
    chi_square: float
    ratio: float


def with_model_error(noise: GaussianNoise, errors: Tensor, observed: Tensor | None) -> ModelError:
    """Add the error of a model to the noise of an instrument.

    Arguments:
        noise: D.
        errors: Errors of the model at the data, of several fields, shape `(fields, *data)`, mean not taken off.
        observed: Bool, shape `data`: which data there are; None for all.
    """
    if observed is not None:
        errors = torch.where(observed, errors, torch.zeros_like(errors))
    count = errors[0].numel() if observed is None else int(observed.sum())
    eta = noise.root(torch.randn(errors.shape, generator=Generator().manual_seed(0), dtype=errors.dtype).to(errors))
    scores = {}
    for share in SHARES:
        value, chi_square = 0.0, 0.0
        for fold in range(FOLDS):
            out = torch.arange(len(errors), device=errors.device) % FOLDS == fold
            law = _law(noise, errors[~out], share)
            r = errors[out] - errors[~out].mean(0) + eta[out]
            zero = torch.zeros_like(r)
            value += float(law.log_prob(r, zero, observed).sum())
            chi_square += float(law.chi_square(r, zero, observed).sum())
        scores[share] = value, chi_square / (len(errors) * count)
    share = max(scores, key=lambda share: scores[share][0])
    instrument = (noise.variance.to(errors) * torch.ones_like(errors[0]))[... if observed is None else observed]
    ratio = float((errors - errors.mean(0)).square().sum() / (len(errors) - 1) / instrument.sum()) ** 0.5
    return ModelError(_law(noise, errors, share), share, scores[share][1], ratio)


def _law(noise: GaussianNoise, errors: Tensor, share: float) -> LowRankGaussianNoise:
    n = len(errors)
    unbiased = (1 + 1 / n) / (n - 1)  # the mean is an estimate too, with a variance of C / n
    factors = (errors - errors.mean(0)) * unbiased**0.5
    own = noise.variance.to(errors) + share * factors.square().sum(0)
    return LowRankGaussianNoise(own, (1 - share) ** 0.5 * factors)
