"""Data that share a place made one datum, and whether their differences are their noise."""

from __future__ import annotations

import numpy as np
from scipy.stats import chi2

IMPROBABLE = 1e-6
"""Probability of differences as large as those found below which data are said to contradict each other."""


def merge(
    places: np.ndarray, values: np.ndarray, variances: np.ndarray | None
) -> tuple[np.ndarray, np.ndarray, np.ndarray | None, np.ndarray, int]:
    """Data at one place made one: their mean by inverse variances, with variance 1 / sum of these.

    Arguments:
        places: `(data, axes)`.
        values: `(data,)`.
        variances: `(data,)` or one; None where unknown: then the data stay apart.

    Returns:
        Places, values, variances, the row in which each place first stood, and how many data share another's place.
    """
    found, first, group = np.unique(places, axis=0, return_index=True, return_inverse=True)
    shared = len(places) - len(found)
    if shared == 0 or variances is None:
        return places, values, variances, np.arange(len(places)), shared
    group = group.ravel()
    weight = 1 / np.broadcast_to(variances, values.shape)
    total = np.bincount(group, weight)
    mean = np.bincount(group, weight * values) / total
    order = np.argsort(first)  # in the order of the table
    return found[order], mean[order], (1 / total)[order], first[order], shared


def contradiction(places: np.ndarray, values: np.ndarray, variances: np.ndarray | None) -> str | None:
    """A warning where data at one place differ by more than their noise; None where they do not, or it is unknown.

    Over all shared places, the sum of (y - mean)^2 / variance is chi-square with as many degrees of freedom as data are
    merged; a single place is judged by itself as well, its probability times the number of places.
    """
    if variances is None:
        return None
    found, group, counts = np.unique(places, axis=0, return_inverse=True, return_counts=True)
    if len(found) == len(places):
        return None
    group = group.ravel()
    weight = 1 / np.broadcast_to(variances, values.shape)
    mean = np.bincount(group, weight * values) / np.bincount(group, weight)
    misfit = np.bincount(group, weight * (values - mean[group]) ** 2)
    worst = int(np.argmin(chi2.logsf(misfit, np.maximum(counts - 1, 1))))
    single = chi2.sf(misfit[worst], counts[worst] - 1) * (counts > 1).sum() if counts[worst] > 1 else 1.0
    freedom = len(places) - len(found)
    if min(chi2.sf(misfit.sum(), freedom), single) >= IMPROBABLE:
        return None
    spread = values[group == worst]
    where = ", ".join(f"{x:g}" for x in found[worst])
    return (
        f"warning: data at one place contradict each other, from {spread.min():g} to {spread.max():g} at {where} "
        f"(chi-square {misfit.sum() / freedom:.3g} per datum): is the noise larger than stated?"
    )
