"""Truths with an exact law, and data of them: by circulant embedding on a fine lattice, or by Cholesky where few."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from infield.core.errors import InfieldError
from infield.pipelines.bench.kriging.oracle import Law

Array = NDArray[np.float64]

LOST = 1e-4
"""Share of the variance that a circulant embedding may lose to eigenvalues below zero."""


@dataclass(frozen=True)
class Problem:
    """Point data of a field, the grid of the map, and what every method is given.

    Arguments:
        points: Where data are, shape `(n, axes)`.
        values: The data, shape `(n,)`.
        axes: Coordinates of the grid along each axis.
        noise_sd: Standard deviation of independent errors; None where it is to be found.
        order: Order of the Matern kernel; None where it is to be found.
        truth: The noise-free field on the grid, flat, or None.
        drift: "constant" or "linear": what all are given of the mean.
        held_out: Places and values that no method is given, or None.
    """

    points: Array
    values: Array
    axes: tuple[Array, ...]
    noise_sd: float | None = None
    order: float | None = None
    truth: Array | None = None
    drift: str = "constant"
    held_out: tuple[Array, Array] | None = None

    @property
    def targets(self) -> Array:
        """Places of the grid, last axis fastest, `(cells, axes)`; behind them those of held-out data."""
        grid = self.grid_places
        return grid if self.held_out is None else np.concatenate([grid, self.held_out[0]])

    @property
    def grid_places(self) -> Array:
        return np.stack(np.meshgrid(*self.axes, indexing="ij"), -1).reshape(-1, len(self.axes))

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(len(axis) for axis in self.axes)

    def stating(self, *, noise_sd: float | None, order: float | None) -> Problem:
        """The same data, with this given of noise and order."""
        return replace(self, noise_sd=noise_sd, order=order)


def on_unit_square(law: Law, data: int, side: int, noise_sd: float, rng: Generator, refine: int = 8) -> Problem:
    """A field on the open unit square, seen at random nodes of a lattice that is finer than the grid.

    Arguments:
        law: Of the field.
        data: How many.
        side: Points of the grid along each axis, the first and last on the boundary of the square.
        noise_sd: Standard deviation of the errors.
        rng: Draws all.
        refine: Steps of the lattice in one of the grid.
    """
    nodes = (side - 1) * refine + 1
    lattice = lattice_field(law, nodes, 1 / (nodes - 1), rng)
    seen = rng.choice(nodes**2, data, replace=False)
    places = np.column_stack(np.divmod(seen, nodes)) / (nodes - 1)
    values = lattice.reshape(-1)[seen] + noise_sd * rng.standard_normal(data)
    axis = np.linspace(0, 1, side)
    return Problem(places, values, (axis, axis), truth=lattice[::refine, ::refine].reshape(-1))


def lattice_field(law: Law, nodes: int, spacing: float, rng: Generator) -> Array:
    """One draw on a square lattice, `(nodes, nodes)`, open: Dietrich and Newsam (1997), on a torus of twice its size.

    Raises:
        InfieldError: The field is so long that the torus is too small for it.
    """
    n = 2 ** int(np.ceil(np.log2(2 * nodes - 2)))
    h = np.minimum(np.arange(n), n - np.arange(n)) * spacing * np.where(np.arange(n) <= n // 2, 1, -1)
    p = law.metric @ np.stack([np.repeat(h, n), np.tile(h, n)])
    eigenvalues = np.fft.rfft2(law.of_distance(np.sqrt((p**2).sum(0))).reshape(n, n)).real
    del p
    lost = -eigenvalues[eigenvalues < 0].sum() / eigenvalues.sum()
    if lost > LOST:
        raise InfieldError(
            where="circulant embedding", found=f"{lost:.1e} of the variance lost", expected="a short field"
        )
    root = np.sqrt(np.maximum(eigenvalues, 0, out=eigenvalues), out=eigenvalues)
    white = np.fft.rfft2(rng.standard_normal((n, n)))
    white *= root
    return np.fft.irfft2(white, s=(n, n))[:nodes, :nodes]


def at_places(law: Law, places: Array, rng: Generator) -> Array:
    """One draw at scattered places, `(n,)`, by Cholesky."""
    K = law.covariance(places, places)
    K[np.diag_indices(len(K))] += 1e-10 * law.sd**2
    return np.linalg.cholesky(K) @ rng.standard_normal(len(places))
