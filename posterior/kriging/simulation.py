r"""Joint draws of the field at many targets given data: sequential simulation with neighbours chosen from coarse to fine.

Targets follow in an order; each is drawn from its law given some of the data and some of the targets before it (Vecchia
1988, JRSS B 50, 297; Katzfuss, Guinness, Gong and Zilber 2020, "Vecchia approximations of Gaussian-process predictions",
JABES 25, 383: data first, noisy; then targets, of the field without noise). With all of them the draws are exact:

    x_i = w_i^T (r, x_before) + s_i z_i,    w_i = K_i^-1 k_i,    s_i^2 = k_ii - k_i^T w_i,

K_i of the neighbours, with the noise of data on its diagonal, and r = y - F beta the data around their trend.

Order: boxes of width h are halved level by level, and on each level every box that holds no target yet gives the one nearest
to its anchor. Targets of a level are at distances of about h, those before at about 2 h, so that data much farther than h
are screened by targets drawn before: only coarse levels, which are small, need many data. Boxes of a level are drawn in
classes of position modulo 3 along each axis, each class at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.spatial import cKDTree
from torch import Tensor

from infield.posterior.kriging.law import StationaryLaw
from infield.posterior.kriging.neighbours import JITTER, Places, settled
from infield.posterior.kriging.observations import Observations

NUMBERS = 200_000
"""Covariances held at once while weights are computed: as many as a core's cache holds."""

CLASSES = 128
ROWS = 16_384
"""Targets a step at most."""


@dataclass(frozen=True)
class Neighbourhood:
    """Numbers of neighbours of a target.

    Arguments:
        drawn: Targets drawn before.
        fewest: Data at least.
        most: Data at most.
        reach: Data within this many box widths are taken, up to `most`.
        classes: Boxes of a level whose positions agree modulo this number are drawn at once.
    """

    drawn: int = 30
    fewest: int = 16
    most: int = 400
    reach: float = 2.5
    classes: int = 2


@dataclass(frozen=True)
class _Step:
    """Targets drawn at once: their numbers, weights of what they are given, and standard deviations."""

    targets: np.ndarray
    weights: csr_array
    std: np.ndarray


class Simulator:
    """Joint posterior draws of a field around zero at targets; weights are computed once.

    Arguments:
        law: Of the field.
        data: N data; their values are not used, those given to `draw` are.
        targets: Positions, shape `(m, ndim)`, in units of the geometry.
        neighbourhood: Numbers of neighbours.
        memory: Bytes that weights may take; above, they are computed anew for each call of `draw`.
    """

    def __init__(
        self,
        law: StationaryLaw,
        data: Observations,
        targets: Tensor,
        neighbourhood: Neighbourhood = Neighbourhood(),
        memory: float = 3e9,
    ) -> None:
        self.law, self.neighbourhood = law, neighbourhood
        self.at, self.data = settled(law, data)
        self.where = Places.of(law, targets)
        numbers = len(self.where.order) * (neighbourhood.drawn + neighbourhood.fewest)
        self._kept = list(self._steps()) if 12.0 * numbers <= memory else None

    def draw(self, residuals: Tensor, white: Tensor) -> Tensor:
        """Return draws of the field at the targets; draw i depends on rows i alone.

        Arguments:
            residuals: Data around their trend, y - F beta_i, shape `(n, N)`.
            white: Independent standard normal numbers, shape `(n, m)`, ordered as the targets.

        Returns:
            Shape `(n, m)`, ordered as the targets, float64.
        """
        N, order = len(self.data), self.where.order
        values = np.empty((N + len(order), len(white)))
        values[:N] = residuals.double().cpu().numpy().T[self.at.order]
        noise = white.double().cpu().numpy().T
        for step in self._kept if self._kept is not None else self._steps():
            values[N + step.targets] = step.weights @ values + step.std[:, None] * noise[order[step.targets]]
        drawn = np.empty((len(white), len(order)))
        drawn[:, order] = values[N:].T
        return torch.from_numpy(drawn)

    def _steps(self) -> Iterator[_Step]:
        """Targets in the order in which they are drawn."""
        data, drawn = cKDTree(self.at.search) if len(self.data) else None, np.empty(0, dtype=np.int64)
        for level, width in levels(self.where.search):
            count = self._data_count(data, np.concatenate(level), width)
            for targets in level:
                before = cKDTree(self.where.search[drawn], balanced_tree=False) if len(drawn) else None
                for part in np.split(targets, range(ROWS, len(targets), ROWS)):
                    yield self._step(part, data, count, before, drawn)
                drawn = np.concatenate([drawn, targets])

    def _data_count(self, data: cKDTree | None, targets: np.ndarray, width: float) -> int:
        """Data that each target of a level is given: those in reach of nine tenths of them, between the bounds."""
        if data is None:
            return 0
        some = self.where.search[targets[:: max(1, len(targets) // 500)]]
        counts = data.query_ball_point(some, self.neighbourhood.reach * width, return_length=True)
        wanted = int(np.quantile(counts, 0.9, method="higher"))
        return min(max(wanted, self.neighbourhood.fewest), self.neighbourhood.most, data.n)

    def _step(
        self, targets: np.ndarray, data: cKDTree | None, count: int, before: cKDTree | None, drawn: np.ndarray
    ) -> _Step:
        """Weights of some targets that are drawn at once."""
        search, N = self.where.search[targets], len(self.data)
        near = [np.empty((len(targets), 0), dtype=np.int64)]
        if data is not None:
            near.append(data.query(search, k=range(1, count + 1))[1])
        if before is not None:
            near.append(N + drawn[before.query(search, k=range(1, min(self.neighbourhood.drawn, before.n) + 1))[1]])
        columns = np.concatenate(near, axis=1)
        weights, std = self._weights(torch.from_numpy(targets), torch.from_numpy(columns))
        starts = np.arange(0, columns.size + 1, max(1, columns.shape[1]), dtype=np.int32)
        if not columns.size:
            starts = np.zeros(len(targets) + 1, dtype=np.int32)
        shape = (len(targets), N + len(self.where.order))
        return _Step(targets, csr_array((weights.ravel(), columns.ravel().astype(np.int32), starts), shape=shape), std)

    def _weights(self, targets: Tensor, columns: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """w and s of targets, shape `(t,)`, from numbers of data and targets, shape `(t, k)`."""
        positions = torch.cat([self.at.embedded, self.where.embedded])
        noise = torch.cat([self.data.noise, torch.zeros(len(self.where.order), dtype=torch.float64)])
        k = columns.shape[1]
        weights, std = torch.empty(columns.shape, dtype=torch.float64), torch.empty(len(targets), dtype=torch.float64)
        size = max(1, NUMBERS // max(1, k * k))
        for rows in torch.arange(len(targets)).split(size):
            part = columns[rows]
            given = positions[part]
            K = self.law.between(given, given)
            K.diagonal(dim1=-2, dim2=-1).add_(noise[part] + JITTER * self.law.variance)
            across = self.law.between(given, self.where.embedded[targets[rows], None])
            w = torch.cholesky_solve(across, torch.linalg.cholesky(K))
            weights[rows] = w[..., 0]
            std[rows] = (self.law.variance - (across * w).sum((-2, -1))).clamp_min(0.0).sqrt()
        return weights.numpy(), std.numpy()


def levels(search: np.ndarray) -> Iterator[tuple[list[np.ndarray], float]]:
    """Targets from coarse to fine: on each level its classes, numbers of targets drawn at once, and the width of its boxes.

    Arguments:
        search: Positions for the search of neighbours, shape `(m, D)`, no two alike.
        classes: Boxes whose positions agree modulo this number make a class.
    """
    if not len(search):
        return
    low, extent = search.min(0), float((search.max(0) - search.min(0)).max())
    some = search[:: max(1, len(search) // 2000)]
    spacing = float(np.median(cKDTree(search).query(some, k=[2])[0])) if len(search) > 1 else 1.0
    finest = int(np.ceil(np.log2(extent / spacing + 1)))
    remaining, level = np.arange(len(search)), 0
    taken = np.zeros(len(search), dtype=bool)
    box = np.zeros(len(search), dtype=np.int64)
    while len(remaining):
        width = spacing * 2.0 ** (finest - level)
        scaled = (search - low + spacing / 2) / width
        place = np.floor(scaled).astype(np.int64)
        child = (place & 1) @ (1 << np.arange(search.shape[1]))
        box = np.unique((box << search.shape[1]) + child, return_inverse=True)[1]
        empty = np.ones(box.max() + 1, dtype=bool)
        empty[box[taken]] = False
        free = remaining[empty[box[remaining]]]
        away = np.abs(scaled[free] - place[free] - 0.45).max(1)
        sorted_ = free[np.lexsort((away, box[free]))]
        chosen = sorted_[np.unique(box[sorted_], return_index=True)[1]]
        if len(chosen):
            colour = _classes(place[chosen])
            yield [np.sort(chosen[colour == c]) for c in np.unique(colour)], width
            taken[chosen] = True
            remaining = remaining[~taken[remaining]]
        level += 1


def _classes(place: np.ndarray) -> np.ndarray:
    """Class of each box: its position modulo 8 along each axis, coarse to fine; modulo 4 or 2 where classes are too many."""
    D = place.shape[1]
    for bits in (3, 2, 1):
        digits = [((place >> b) & 1) @ (1 << np.arange(D)) << D * (bits - 1 - b) for b in range(bits)]
        classes = np.unique(np.sum(digits, axis=0), return_inverse=True)[1]
        if classes.max() < CLASSES:
            break
    return classes
