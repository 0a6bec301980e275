r"""Joint draws of the field at many targets given data, by sequential simulation from coarse to fine.

Each target is drawn from its law given some of the data and some of the targets before it (Vecchia 1988, JRSS B
50, 297; Katzfuss, Guinness, Gong and Zilber 2020, "Vecchia approximations of Gaussian-process predictions", JABES
25, 383: data first, with their noise; then targets, of the field without noise). Given all of them the draws are exact:

    x_i = w_i^T (r, x_before) + s_i z_i,    w_i = K_i^-1 k_i,    s_i^2 = k_ii - k_i^T w_i,

K_i of the neighbours, with the noise of data on its diagonal, and r = y - F beta the data around their trend.

Order: boxes of width h are halved level by level, and on each level every box that holds no target yet gives the one
nearest to its anchor. Targets of a level are at distances of about h, those before at about 2 h, so that data much
farther than h are screened by targets drawn before: only coarse levels, which are small, need many data. Boxes whose
positions agree modulo 8 along each axis are drawn at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_array
from scipy.spatial import cKDTree
from torch import Tensor

from infield.posterior.kriging.law import JITTER, StationaryLaw
from infield.posterior.kriging.neighbours import Places, settled
from infield.posterior.kriging.observations import Observations

NUMBERS = 200_000
"""Covariances held at once while weights are computed: as many as a core's cache holds."""

FEW_BOXES, MOST_TREES = 20_000, 2e7
"""Above so many boxes a level has fewer classes: classes times boxes, points put into search trees, stay below this."""

MOST_CLASSES = 150
"""Classes of a level at most, where boxes lie on a surface in more dimensions than its own, as on the sphere."""

ROWS = 16_384
"""Targets a step at most."""


@dataclass(frozen=True)
class Neighbourhood:
    """Numbers of neighbours of a target; smooth fields need more.

    Arguments:
        most: Data at most, and on levels of at most `few` targets.
        drawn: Targets drawn before, on levels of more than `many` targets.
        reach: Data within this many box widths are taken; none where there is none, but on levels of `few` targets.
        fewest: Data at least, where there is one in reach.
        drawn_most: Targets drawn before, on levels of at most `many` targets.
        few: Number of targets.
        many: Number of targets.
    """

    most: int = 400
    drawn: int = 30
    reach: float = 4.0
    fewest: int = 16
    drawn_most: int = 50
    few: int = 500
    many: int = 20_000

    @classmethod
    def of(cls, law: StationaryLaw, most: int = 400) -> Neighbourhood:
        """Numbers with which draws were near dense kriging.

        Standard deviations were within 0.02; correlations of any two targets within 0.02 in one and two dimensions
        (0.04 on levels of more than `many` targets), within 0.05 in space and time.
        """
        reach, drawn = {0.5: (3.0, 30), 1.5: (4.0, 30), 2.5: (6.0, 50)}[law.nu]
        if law.geometry.ndim >= 3:
            return cls(most, 50, reach + 2, fewest=32, drawn_most=100)
        return cls(most, drawn, reach)


@dataclass(frozen=True)
class _Together:
    """Targets drawn at once and what they are given: numbers of data and, behind them, of targets.

    Arguments:
        targets: Shape `(t,)`.
        columns: Shape `(t, k)`.
        first: One target of each arrangement of neighbours: targets whose neighbours lie around them alike have the
            same weights.
        which: The arrangement of each target, shape `(t,)`.
    """

    targets: np.ndarray
    columns: np.ndarray
    first: np.ndarray
    which: np.ndarray


@dataclass(frozen=True)
class Plan:
    """An order of targets with their neighbours, chosen by one law; it is valid for others of the same data and
    targets.

    Arguments:
        order: Of the data.
        steps: Targets drawn at once, from coarse to fine.
    """

    order: np.ndarray
    steps: list[_Together]


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
        neighbourhood: Numbers of neighbours; by default `Neighbourhood.of` the law.
        memory: Bytes that weights may take; above, they are computed anew for each call of `draw`.
        plan: Of another law, `planned`, in place of an own one.
    """

    def __init__(
        self,
        law: StationaryLaw,
        data: Observations,
        targets: Tensor,
        neighbourhood: Neighbourhood | None = None,
        memory: float = 3e9,
        plan: Plan | None = None,
    ) -> None:
        self.law = law
        self.neighbourhood = neighbourhood or Neighbourhood.of(law)
        self.at, self.data = settled(law, data)
        self.where = Places.of(law, targets)
        self._positions = torch.cat([self.at.embedded, self.where.embedded])
        noise = torch.cat([self.data.noise, torch.zeros(len(self.where.order), dtype=torch.float64)])
        self._noise = noise + JITTER * law.variance
        self.numbers = len(self.where.order)
        """White numbers of a draw."""
        self.bytes = 12.0 * self.numbers * (self.neighbourhood.drawn + self.neighbourhood.fewest)
        """That weights take."""
        self._plan = plan if plan is not None and np.array_equal(plan.order, self.at.order) else None
        self._kept = None
        if self.bytes <= memory:
            self._kept = list(self._steps() if self._plan is None else self._of_plan(self._plan.steps))

    @classmethod
    def planned(cls, law: StationaryLaw, data: Observations, targets: Tensor, neighbourhood: Neighbourhood) -> Plan:
        """The order and the neighbours of a law, without weights."""
        simulator = cls(law, data, targets, neighbourhood, memory=0.0)
        return Plan(simulator.at.order, list(simulator._together()))

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
        """Targets in the order in which they are drawn, with their weights."""
        for together in self._together() if self._plan is None else self._plan.steps:
            yield from self._of_plan([together])

    def _of_plan(self, steps: list[_Together]) -> Iterator[_Step]:
        """Weights of all steps that have as many neighbours are computed at once."""
        N = len(self.data)
        alike: dict[int, list[int]] = {}
        for i, step in enumerate(steps):
            alike.setdefault(step.columns.shape[1], []).append(i)
        found: dict[int, tuple[np.ndarray, np.ndarray]] = {}
        for own in alike.values():
            targets = np.concatenate([N + steps[i].targets[steps[i].first] for i in own])
            columns = np.concatenate([steps[i].columns[steps[i].first] for i in own])
            weights, std = self._weights(torch.from_numpy(targets), torch.from_numpy(columns))
            ends = np.cumsum([len(steps[i].first) for i in own])[:-1]
            found |= dict(zip(own, zip(np.split(weights, ends), np.split(std, ends), strict=True), strict=True))
        for i, step in enumerate(steps):
            (weights, std), (t, k) = found[i], step.columns.shape
            starts, shape = np.arange(t + 1, dtype=np.int32) * k, (t, len(self._positions))
            matrix = csr_array(
                (weights[step.which].ravel(), step.columns.ravel().astype(np.int32), starts), shape=shape
            )
            yield _Step(step.targets, matrix, std[step.which])

    def _together(self) -> Iterator[_Together]:
        """Targets in the order in which they are drawn, with their neighbours."""
        search, drawn = self.where.search, np.empty(0, dtype=np.int64)
        data = cKDTree(self.at.search) if len(self.data) else None
        for level, width in levels(search, search.shape[1] > self.law.geometry.ndim):
            count, reached = self._reached(data, np.concatenate(level), width)
            small = sum(map(len, level)) <= self.neighbourhood.many
            wanted = self.neighbourhood.drawn_most if small else self.neighbourhood.drawn
            for together in level:
                before = cKDTree(search[drawn], balanced_tree=False, compact_nodes=False) if len(drawn) else None
                for some, k in ((together[reached[together]], count), (together[~reached[together]], 0)):
                    for part in np.split(some, range(ROWS, len(some), ROWS)):
                        columns = [np.empty((len(part), 0), dtype=np.int64)]
                        if data is not None and k:
                            columns.append(_nearest(data, search[part], k))
                        if before is not None:
                            near = _nearest(before, search[part], min(wanted, before.n))
                            columns.append(np.sort(len(self.data) + drawn[near], axis=1))
                        if len(part):
                            yield self._arranged(part, np.concatenate(columns, axis=1), k, width)
                drawn = np.concatenate([drawn, together])

    def _reached(self, data: cKDTree | None, level: np.ndarray, width: float) -> tuple[int, np.ndarray]:
        """Number of data for the targets of a level, and which targets have data in reach.

        The number is what nine tenths of those targets have in reach, between the bounds; on small levels the most.
        """
        reached = np.zeros(len(self.where.search), dtype=bool)
        if data is None:
            return 0, reached
        if len(level) <= self.neighbourhood.few:
            reached[level] = True
            return min(self.neighbourhood.most, data.n), reached
        reach = self.neighbourhood.reach * width
        reached[level] = data.query(self.where.search[level])[0] <= reach
        some = level[reached[level]]
        if not len(some):
            return 0, reached
        some = some[:: max(1, len(some) // 500)]
        counts = data.query_ball_point(self.where.search[some], reach, return_length=True)
        count = int(np.quantile(counts, 0.9, method="higher"))
        return min(max(count, self.neighbourhood.fewest), self.neighbourhood.most, data.n), reached

    def _arranged(self, targets: np.ndarray, columns: np.ndarray, of_data: int, width: float) -> _Together:
        """Targets that are drawn at once, given data (first) and targets in some columns, shape `(t, k)`.

        Without data, most targets on a grid have neighbours that lie around them alike: each arrangement is solved
        once.
        """
        N, place = len(self.data), self._positions.numpy()
        first = which = np.arange(len(targets))
        if not of_data:
            around = np.rint((place[columns] - place[N + targets, None]) * (1e6 / width)).astype(np.int64)
            hashed = around.reshape(len(targets), -1) @ np.random.default_rng(1).integers(2**62, size=around[0].size)
            _, first, which = np.unique(hashed, return_index=True, return_inverse=True)
        return _Together(targets, columns, first, which)

    def _weights(self, targets: Tensor, columns: Tensor) -> tuple[np.ndarray, np.ndarray]:
        """w, shape `(t, k)`, and s, shape `(t,)`, of targets given columns of data and targets."""
        k = columns.shape[1]
        weights, std = torch.empty(columns.shape, dtype=torch.float64), torch.empty(len(targets), dtype=torch.float64)
        for rows in torch.arange(len(targets)).split(max(1, NUMBERS // max(1, k * k))):
            part = columns[rows]
            given = self._positions[part]
            K = self.law.between(given, given)
            K.diagonal(dim1=-2, dim2=-1).add_(self._noise[part])
            across = self.law.between(given, self._positions[targets[rows], None])
            w = torch.cholesky_solve(across, torch.linalg.cholesky(K))
            weights[rows] = w[..., 0]
            std[rows] = (self.law.variance - (across * w).sum((-2, -1))).clamp_min(0.0).sqrt()
        return weights.numpy(), std.numpy()


def _nearest(tree: cKDTree, search: np.ndarray, k: int) -> np.ndarray:
    """Numbers of the k points nearest to each position, shape `(t, k)`."""
    return tree.query(search, k=k)[1].reshape(len(search), k)


def levels(search: np.ndarray, surface: bool = False) -> Iterator[tuple[list[np.ndarray], float]]:
    """Targets from coarse to fine: on each level the targets drawn at once, class by class, and the width of boxes.

    Arguments:
        search: Positions for the search of neighbours, shape `(m, D)`, no two alike.
        surface: Whether they lie on a surface in more dimensions than its own, as on the sphere.
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
        away = np.max(np.abs(scaled[free] - place[free] - 0.45).T, axis=0)
        nearest_first = free[np.lexsort((away, box[free]))]
        chosen = nearest_first[np.unique(box[nearest_first], return_index=True)[1]]
        if len(chosen):
            colour = _classes(place[chosen], surface)
            yield [np.sort(chosen[colour == c]) for c in np.unique(colour)], width
            taken[chosen] = True
            remaining = remaining[~taken[remaining]]
        level += 1


def _classes(place: np.ndarray, surface: bool) -> np.ndarray:
    """Class of each box: its position modulo 8 along each axis; modulo 4 or 2 where classes are too many.

    Classes are numbered by the lowest digits first, so that those drawn one after the other are far apart.
    """
    D, classes = place.shape[1], np.zeros(len(place), dtype=np.int64)
    for bits in (3, 2, 1):
        digits = [(((place >> b) & 1) @ (1 << np.arange(D))) << (D * (bits - 1 - b)) for b in range(bits)]
        classes = np.unique(np.sum(digits, axis=0), return_inverse=True)[1]
        few = len(place) <= FEW_BOXES or classes.max() < MOST_TREES / len(place)
        if few and (classes.max() < MOST_CLASSES or not surface):
            break
    return classes
