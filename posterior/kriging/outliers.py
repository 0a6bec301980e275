"""Data that a fitted law does not predict from the others, far apart from all the rest: gross errors.

A few of them inflate the noise or the variance of the field until a law covers them, and then chi-square and coverage
are right. What remains is that the largest error of prediction, in predicted standard deviations, is improbable, and
that a gap parts such errors from the others; heavy tails have no gap.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from scipy.special import ndtr
from torch import Tensor

from infield.posterior.kriging.fitted import FittedField

SIGNIFICANT = 0.004
"""Probability below which a check fails; a right law fails one of the checks in about one of fifty files."""

GAP = 2.0
"""How many times the largest of the others each of them must be."""

SHARE = 0.05
"""Of the data, at most, and of few data up to three: more than these are no exceptions."""

DOMINANT = 0.5
"""Share of the variance of all data, around their median, that no single one should hold."""


@dataclass(frozen=True)
class Apart:
    """Errors of prediction far apart from all others.

    Arguments:
        sizes: Their sizes, in predicted standard deviations; empty where there are none.
        count: Number of predictions.
    """

    sizes: tuple[float, ...]
    count: int


def outlying(
    field: FittedField, z: Tensor, given_the_rest: Callable[[], Sequence[tuple[Tensor, Tensor]]] = tuple
) -> list[str]:
    """Whether one datum makes up the law, or a few lie apart from what the others predict; one line at most.

    Arguments:
        field: A fit.
        z: Errors of predictions of held-out data, in predicted standard deviations, shape `(predictions,)`.
        given_the_rest: Gives of each channel the inverse covariance of its data, and the data, for `left_out_in_turn`;
            nothing where there are too many.
    """
    worst = float(z.abs().max())
    if 2 * len(z) * float(ndtr(-worst)) >= SIGNIFICANT:
        return []
    for data in field.data.channels:
        squares = (data.y - data.y.median()).square()
        if float(squares.max()) > float(squares.sum()) * DOMINANT:
            value, share = float(data.y[squares.argmax()]), float(squares.max() / squares.sum())
            return [f"one datum, {value:.4g} {field.units}, holds {100 * share:.0f} % of the variance of all and lies "
                    f"{worst:.1f} standard deviations off what the others predict: is it an error?"]  # fmt: skip
    found = [left_out_in_turn(P, y) for P, y in given_the_rest()] or [far_apart(z)]
    apart = max(found, key=lambda one: len(one.sizes))
    if not apart.sizes:
        return []
    least, most = min(apart.sizes), max(apart.sizes)
    which = "one datum lies" if len(apart.sizes) == 1 else f"{len(apart.sizes)} data lie"
    sizes = f"{most:.1f}" if len(apart.sizes) == 1 else f"{least:.1f} to {most:.1f}"
    return [f"{which} {sizes} standard deviations off what the others predict, more than {GAP:g} times as far as any "
            f"other of {apart.count}: errors?"]  # fmt: skip


def most_of(count: int) -> int:
    """How many of some data may be exceptions."""
    return max(int(SHARE * count), min(count // 10, 3), 1)


def far_apart(z: Tensor) -> Apart:
    """The largest errors, down to the widest gap as ratio, if it is as wide as `GAP`."""
    most = most_of(len(z))
    if len(z) <= most + 1:
        return Apart((), len(z))
    largest = z.abs().topk(most + 1).values
    ratios = largest[:-1] / largest[1:].clamp_min(1e-12)
    number = int(torch.argmax(ratios)) + 1 if float(ratios.max()) >= GAP else 0
    return Apart(tuple(largest[:number].tolist()), len(z))


def left_out_in_turn(precision: Tensor, y: Tensor) -> Apart:
    """The same for data of which the worst predicted is left out, and the next from what is left, and so on: a gross
    error spoils the predictions of its neighbours, and nothing once it has gone.

    Without datum i the inverse covariance of the others is P - P_i P_i^T / P_ii, and errors of predictions in standard
    deviations are (P y)_j / sqrt(P_jj) (Rasmussen & Williams 2006, eqs. A.11 to A.13 and 5.12).

    Arguments:
        precision: P of all data, shape `(n, n)`.
        y: Data around the prior mean, shape `(n,)`.
    """
    P, left, number, widest = precision.clone(), torch.ones(len(y), dtype=torch.bool), 0, GAP
    sizes: list[float] = []
    for _ in range(min(most_of(len(y)), len(y) - 2) + 1):
        z = torch.where(left, (P @ torch.where(left, y, 0.0)) / P.diagonal().clamp_min(1e-300).sqrt(), 0.0).abs()
        i = int(z.argmax())
        if sizes and min(sizes) >= widest * max(float(z[i]), 1e-12):
            number, widest = len(sizes), min(sizes) / max(float(z[i]), 1e-12)
        sizes.append(float(z[i]))
        column, left[i] = P[:, i].clone(), False
        P -= torch.outer(column, column) / column[i]
    return Apart(tuple(sizes[:number]), len(y))
