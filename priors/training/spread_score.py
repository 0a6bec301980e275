"""A score of the mean and the spread of draws, from two of them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def dawid_sebastiani_score(first: Tensor, second: Tensor, truth: Tensor, floor: Tensor | float = 0.0) -> Tensor:
    """(log V + B / V) / 2 of two draws and the truth of each example, shape `(batch,)`.

    V is the variance of the draws and B the squared error of their mean, both means over values, and the floor added to
    both. It is the score of Dawid & Sebastiani (1999) for the field as a whole: its mean is least where the draws' mean
    is that of the truth and V = B. With few values per field, two draws do not determine V well enough.

    Arguments:
        first, second: Draws, shape `(batch, channel, *space)`.
        truth: The same shape.
        floor: Variance of noise that is thought to be added to draws and truth, a number or shape `(batch,)`. It leaves
            the least value where it is, and draws that hardly differ do not outweigh all others.
    """

    V, B = (part + floor for part in spread_and_error(first, second, truth))
    return (V.log() + B / V) / 2


def spread_and_error(first: Tensor, second: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """V, the variance of draws, and B, the squared error of their mean, without bias from two of them; `(batch,)`."""

    def square(a: Tensor, b: Tensor) -> Tensor:
        return (a - b).square().flatten(1).mean(1)

    V = square(first, second) / 2 + 1e-12
    return V, (square(first, truth) + square(second, truth)) / 2 - V


def error_over_spread(cases: Sequence[tuple[Tensor, Tensor, Tensor]]) -> float:
    """B / V over all cases (first draws, second draws, truths); 1 if there are too few to estimate it."""
    V, B = torch.stack([torch.stack(spread_and_error(*case)).sum(1) for case in cases]).sum(0).tolist()
    return B / V if B > 0 else 1.0
