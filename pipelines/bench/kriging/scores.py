"""Scores of a mean and standard deviation: of the noise-free field on the grid, near its boundary, of data held out."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.stats import norm

Array = NDArray[np.float64]

RIM = 0.05
"""Outer fraction of each axis that counts as the boundary."""


def crps(mean: Array, sd: Array, truth: Array) -> float:
    """Mean continuous ranked probability score of normal laws, Gneiting and Raftery (2007), eq. 21."""
    sd = np.maximum(sd, 1e-12)
    z = (truth - mean) / sd
    return float((sd * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - np.pi**-0.5)).mean())


def rmse(mean: Array, truth: Array) -> float:
    return float(np.sqrt(((mean - truth) ** 2).mean()))


def coverage(mean: Array, sd: Array, truth: Array, level: float = 0.9) -> float:
    """Share of truths inside of central intervals of this level."""
    return float((np.abs(truth - mean) <= NormalDist().inv_cdf((1 + level) / 2) * sd).mean())


def rim_of(axes: tuple[Array, ...]) -> NDArray[np.bool_]:
    """Which cells of a grid, flat, lie in the outer share of any axis."""
    low = [axis[0] + RIM * (axis[-1] - axis[0]) for axis in axes]
    high = [axis[-1] - RIM * (axis[-1] - axis[0]) for axis in axes]
    inside = [(axis >= a) & (axis <= b) for axis, a, b in zip(axes, low, high, strict=True)]
    return ~np.logical_and.reduce(np.meshgrid(*inside, indexing="ij")).reshape(-1)


def far_from_data(places: Array, points: Array, share: float = 0.1) -> NDArray[np.bool_]:
    """The tenth of the cells that is farthest from any datum."""
    distance = cKDTree(points).query(places)[0]
    return distance >= np.quantile(distance, 1 - share)


def of_field(mean: Array, sd: Array, truth: Array, rim: NDArray[np.bool_], far: NDArray[np.bool_]) -> dict[str, float]:
    """All scores of a map whose truth is known."""
    return {
        "rmse": rmse(mean, truth),
        "rmse_rim": rmse(mean[rim], truth[rim]),
        "crps": crps(mean, sd, truth),
        "coverage_90": coverage(mean, sd, truth),
        "coverage_90_rim": coverage(mean[rim], sd[rim], truth[rim]),
        "coverage_90_far": coverage(mean[far], sd[far], truth[far]),
        "sd": float(np.sqrt((sd**2).mean())),
    }
