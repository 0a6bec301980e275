"""Scores of predicted follow-ups, with sampling errors by a bootstrap over subjects."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Generator, Tensor

RESAMPLED = 100


def bootstrap_error(statistic: Callable[[Tensor], float], subjects: int, generator: Generator) -> float:
    """Standard error of a statistic of a set of subjects, given by their indices."""
    found = [statistic(torch.randint(subjects, (subjects,), generator=generator)) for _ in range(RESAMPLED)]
    return float(torch.tensor(found).std())


def square_error(prediction: Tensor, truth: Tensor) -> Tensor:
    """Mean square over the regions, one number a subject."""
    return (prediction - truth).square().mean(1)


def root_ratio(a: Tensor, b: Tensor) -> Callable[[Tensor], float]:
    """Root of the ratio of two means over subjects, as a function of their indices."""
    return lambda i: float((a[i].mean() / b[i].mean()).sqrt())


def covered(draws: Tensor, truth: Tensor) -> Tensor:
    """Whether the truth is between the least and the largest draw: of 19 draws, the interval of 90 % (order statistics
    1 and 19 of 20 ranks).

    Arguments:
        draws: `(subjects, draws, values)`.
        truth: `(subjects, values)`.
    """
    return ((truth >= draws.amin(1)) & (truth <= draws.amax(1))).double()


def fair_crps(draws: Tensor, truth: Tensor) -> Tensor:
    """Continuous ranked probability score of the law that was drawn from: pairs are divided by n (n - 1); one number a
    subject, in units of the values."""
    n = draws.shape[1]
    ordered = draws.sort(1).values
    weight = 2 * torch.arange(1, n + 1, dtype=draws.dtype) - n - 1
    pairs = (weight[None, :, None] * ordered).sum(1) / (n * (n - 1))
    return ((draws - truth[:, None]).abs().mean(1) - pairs).mean(1)


def variances(draws: Tensor) -> Tensor:
    """Variance of the draws with what the mean of so many adds, one number a subject."""
    return draws.var(1).mean(1) * (1 + 1 / draws.shape[1])
