r"""Draws of a law between grid points, given draws of it there.

Each place, in an order, is drawn from its law given the grid points around it and the places before it that are no
farther (Vecchia 1988, JRSS B 50, 297):

    v_i = w_i^T f + b_i^T v + s_i z_i,    b_ij = 0 for j >= i,

so that all places follow from one triangular system, (1 - B) v = W f + s z.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from infield.posterior.kriging.law import JITTER, StationaryLaw
from infield.posterior.kriging.neighbours import Places
from infield.posterior.kriging.vecchia import Terms, neighbour_terms

NUMBERS = 200_000
"""Covariances held at once: as many as a core's cache holds."""


@dataclass(frozen=True)
class Neighbours:
    """Of each place, chosen by one law; valid for others.

    Arguments:
        order: Of the data at these places.
        on_grid: Grid points, in the order of the grid, shape `(N, k)`.
        before: Places drawn before.
    """

    order: np.ndarray
    on_grid: Tensor
    before: Terms

    @classmethod
    def of(cls, law: StationaryLaw, places: Places, targets: Tensor, most: int) -> Neighbours:
        """At most so many grid points, and of the places before as many as lie within the farthest of them at most."""
        grid = Places.of(law, targets)
        k = min(most, len(grid.order))
        reach, near = cKDTree(grid.search).query(places.search, k=range(1, k + 1))
        within = cKDTree(places.search).query_ball_point(places.search, reach[:, -1], return_length=True) - 1
        drawn = min(most, int(within.max(initial=0)), len(places.order) - 1)
        z, everyone = torch.from_numpy(places.search), torch.arange(len(places.order))
        if drawn < 1:
            none = torch.zeros((len(everyone), 1), dtype=torch.bool)
            before = Terms(everyone[:, None], none)
        else:
            before = neighbour_terms(z, everyone, drawn)
        return cls(places.order, torch.from_numpy(grid.order[near]), before)


class Between:
    """Draws at places under one law.

    Arguments:
        law: Of the field.
        places: N places.
        targets: The grid, embedded, shape `(m, D)`.
        neighbours: Of the places.
    """

    def __init__(self, law: StationaryLaw, places: Places, targets: Tensor, neighbours: Neighbours) -> None:
        self._on_grid, before = neighbours.on_grid, neighbours.before
        self._before = before.index[:, :-1]
        N, k = self._on_grid.shape
        given = torch.cat([targets[self._on_grid], places.embedded[self._before]], 1)
        apart = torch.cat([torch.zeros((N, k), dtype=torch.bool), before.missing[:, :-1]], 1)
        weights, std = torch.empty(apart.shape, dtype=torch.float64), torch.empty(N, dtype=torch.float64)
        for rows in torch.arange(N).split(max(1, NUMBERS // given.shape[1] ** 2)):
            K = law.between(given[rows], given[rows])
            across = law.between(given[rows], places.embedded[rows, None])[..., 0]
            own = torch.full_like(across, JITTER * law.variance)
            if bool(apart[rows].any()):
                missing = apart[rows]
                K = torch.where(missing[:, :, None] | missing[:, None, :], 0.0, K)
                own, across = torch.where(missing, 1.0, own), torch.where(missing, 0.0, across)
            K.diagonal(dim1=1, dim2=2).add_(own)
            w = torch.cholesky_solve(across[..., None], torch.linalg.cholesky(K))[..., 0]
            weights[rows] = w
            std[rows] = (law.variance - (across * w).sum(1)).clamp_min(0.0).sqrt()
        self._of_grid, self._of_before = weights.split([k, self._before.shape[1]], 1)
        self._std = std
        self.bytes = 8.0 * weights.numel()
        """That are kept."""

    def draw(self, fields: Tensor, white: Tensor) -> Tensor:
        """At the places, shape `(n, N)`, given draws on the grid `(n, m)` and independent standard normal numbers."""
        right = torch.einsum("nik,ik->in", fields[:, self._on_grid], self._of_grid) + (self._std * white).mT
        B = torch.zeros((len(right), len(right)), dtype=torch.float64).scatter_(1, self._before, -self._of_before)
        return torch.linalg.solve_triangular(B, right, upper=False, unitriangular=True).mT
