"""Data that a fitted law does not predict from the others, far apart from all the rest: gross errors.

A few of them inflate the noise or the variance of the field until a law covers them, and then chi-square and coverage
are right. What remains is that the largest error of prediction, in predicted standard deviations, is improbable, and
that a gap parts such errors from the others; heavy tails have no gap.
"""

from __future__ import annotations

import torch
from scipy.special import ndtr
from torch import Tensor

from infield.posterior.kriging.fitted import FittedField

SIGNIFICANT = 0.004
"""Probability below which a check fails; a right law fails one of the checks in about one of fifty files."""

GAP = 2.0
"""How many times the largest of the others each of them must be."""

SHARE = 0.05
"""Of the data, at most, and one at least: more than these are no exceptions."""

DOMINANT = 0.5
"""Share of the variance of all data, around their median, that no single one should hold."""


def outlying(field: FittedField, z: Tensor) -> list[str]:
    """Whether one datum makes up the law, or a few lie apart from what the others predict; one line at most.

    Arguments:
        field: A fit.
        z: Errors of predictions of held-out data, in predicted standard deviations, shape `(predictions,)`.
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
    apart = far_apart(z)
    if not apart:
        return []
    least = float(z.abs().topk(apart).values[-1])
    sizes = f"{worst:.1f}" if apart == 1 else f"{least:.1f} to {worst:.1f}"
    which = "one held-out datum lies" if apart == 1 else f"{apart} held-out data lie"
    return [f"{which} {sizes} standard deviations off what the others predict, more than {GAP:g} times as far as any "
            f"other of {len(z)}: errors?"]  # fmt: skip


def far_apart(z: Tensor) -> int:
    """How many of the largest errors lie beyond the widest gap, as ratio, if it is as wide as `GAP`; 0 if not."""
    most = max(int(SHARE * len(z)), 1)
    if len(z) <= most + 1:
        return 0
    largest = z.abs().topk(most + 1).values
    ratios = largest[:-1] / largest[1:].clamp_min(1e-12)
    return int(torch.argmax(ratios)) + 1 if float(ratios.max()) >= GAP else 0
