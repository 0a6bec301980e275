"""Data that share a place made one datum."""

from __future__ import annotations

import numpy as np


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
