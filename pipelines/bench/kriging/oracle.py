"""Dense kriging in NumPy and SciPy, independent of the suite: what a right answer is where the law is known."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.special import gamma, kv

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Law:
    """A stationary Matern field, C(h) = s^2 rho(sqrt(2 nu) |M h|), as Rasmussen and Williams (2006), eq. 4.14.

    Arguments:
        nu: Order, 1/2, 3/2, 5/2, or any positive number.
        metric: M, which divides by the lengths (and turns), shape `(axes, axes)`; a number l stands for 1 / l.
        sd: s, standard deviation of the field.
    """

    nu: float
    metric: Array = field(default_factory=lambda: np.eye(2))
    sd: float = 1.0

    def covariance(self, a: Array, b: Array) -> Array:
        """C(a_i - b_j), shape `(len(a), len(b))`, for places `(n, axes)`."""
        p, q = a @ self.metric.T, b @ self.metric.T
        squared = (p**2).sum(1)[:, None] + (q**2).sum(1) - 2 * (p @ q.T)
        return self.of_distance(np.sqrt(np.maximum(squared, 0, out=squared), out=squared))

    def of_distance(self, r: Array) -> Array:
        """C at |M h| = r."""
        return self.sd**2 * matern(r, self.nu)


def matern(r: Array, nu: float) -> Array:
    """Matern's correlation of order nu at r lengths."""
    if nu == 0.5:
        return np.exp(-r)
    s = np.sqrt(2 * nu) * r
    if nu == 1.5:
        return (1 + s) * np.exp(-s)
    if nu == 2.5:
        return (1 + s + s**2 / 3) * np.exp(-s)
    safe = np.maximum(s, 1e-8)
    return np.where(s < 1e-8, 1.0, 2 ** (1 - nu) / gamma(nu) * safe**nu * kv(nu, safe))


def isotropic(nu: float, length: float, sd: float = 1.0, axes: int = 2) -> Law:
    """One length along all axes."""
    return Law(nu, np.eye(axes) / length, sd)


def turned(nu: float, lengths: tuple[float, float], degrees: float = 0.0, sd: float = 1.0) -> Law:
    """Two lengths, along axes that are turned."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    return Law(nu, np.diag(1 / np.asarray(lengths)) @ np.array([[c, s], [-s, c]]), sd)


def dense_kriging(
    law: Law, points: Array, values: Array, noise: Array | float, targets: Array, drift: str = "none", batch: int = 1024
) -> tuple[Array, Array]:
    """Mean and standard deviation of the noise-free field; a drift has a flat prior (universal kriging).

    Arguments:
        law: Of the field around its drift.
        points: Where data are, `(n, axes)`.
        values: The data, `(n,)`.
        noise: Covariance of their errors `(n, n)`, variance of each `(n,)`, or of all.
        targets: Places of the predictions, `(m, axes)`.
        drift: "none" (mean zero), "constant" or "linear".
        batch: Targets at a time.

    Returns:
        Mean and standard deviation, `(m,)` each.
    """
    K = np.empty((len(points), len(points)), order="F")  # filled in parts: at 20,000 data it holds 3 GiB
    for start in range(0, len(points), batch):
        K[:, start : start + batch] = law.covariance(points, points[start : start + batch])
    if np.ndim(noise) == 2:
        K += noise
    else:
        K[np.diag_indices(len(K))] += noise
    factor = cho_factor(K, lower=True, overwrite_a=True, check_finite=False)
    centre = points.mean(0)
    F = _drift(points - centre, drift)
    weights = cho_solve(factor, values)
    if F.shape[1]:
        half = cho_solve(factor, F)
        precision = F.T @ half
        beta = np.linalg.solve(precision, half.T @ values)
        weights = weights - half @ beta
    mean, variance = np.empty(len(targets)), np.empty(len(targets))
    for start in range(0, len(targets), batch):
        at = slice(start, start + batch)
        k = law.covariance(points, targets[at])
        solved = cho_solve(factor, k, check_finite=False)
        mean[at], variance[at] = k.T @ weights, law.sd**2 - (k * solved).sum(0)
        if F.shape[1]:
            left_over = _drift(targets[at] - centre, drift) - k.T @ half
            mean[at] += _drift(targets[at] - centre, drift) @ beta
            variance[at] += (left_over * np.linalg.solve(precision, left_over.T).T).sum(1)
    return mean, np.sqrt(np.maximum(variance, 0))


def _drift(places: Array, drift: str) -> Array:
    columns = {"none": 0, "constant": 1, "linear": 1 + places.shape[1]}[drift]
    return np.column_stack([np.ones(len(places)), places])[:, :columns]
