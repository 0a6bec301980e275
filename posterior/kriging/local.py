r"""Mean and variance of the field at many targets, by kriging each block of targets from the data nearest to it.

Rasmussen and Williams 2006, "Gaussian processes for machine learning", eqs. 2.25, 2.26 and, with a trend F beta whose
coefficients have the posterior N(b, V), 2.41 and 2.42 (universal kriging):

    mean = F* b + k*^T K^-1 (y - F b),
    variance = k** - k*^T K^-1 k* + g V g^T,    g = F* - k*^T K^-1 F.

Targets that lie together share their data, so that one Cholesky factor is shared by a block (a moving neighbourhood;
Chiles and Delfiner 2012, "Geostatistics", section 3.6). The number of data is doubled until the moments no longer
change; with all data in one neighbourhood the moments are exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from infield.posterior.kriging.law import JITTER, StationaryLaw
from infield.posterior.kriging.neighbours import Places, settled
from infield.posterior.kriging.observations import Coefficients, Observations

MIN_NEIGHBOURS, MAX_NEIGHBOURS = 64, 800
"""Data a block from which the search starts, and at which it ends."""

MAX_DATA_EXACT = 1000
"""Number of data up to which every target is given all of them."""

TARGETS = 256
"""Targets a block at most."""

PILOT_BLOCKS, PILOT_TARGETS = 32, 4
"""Blocks, and targets in each, on which numbers of neighbours are compared."""

BATCH_NUMBERS = 1_500_000
"""Covariances held at once: blocks of equal size are stacked up to this."""


@dataclass(frozen=True)
class Moments:
    """Moments of the field without noise at each target.

    Arguments:
        mean: Shape `(m,)`, in units of the field.
        variance: Shape `(m,)`, in squared units of the field.
        neighbours: Number of data that each target is given.
        change: How near: root mean square, over some targets, of the change of the mean in standard deviations when
            that number is doubled; 0 if all data are given, NaN if the number was.
        change_std: The same of the relative change of the standard deviation.
    """

    mean: Tensor
    variance: Tensor
    neighbours: int
    change: float = 0.0
    change_std: float = 0.0


@dataclass(frozen=True)
class _Problem:
    """Data and targets, each in the order of its places."""

    law: StationaryLaw
    data: Observations
    at: Tensor
    targets: Tensor
    design: Tensor
    trend: Coefficients

    @property
    def residual(self) -> Tensor:
        """y - F b."""
        return self.data.y - self.data.design @ self.trend.mean

    def factor(self, near: Tensor) -> tuple[Tensor, Tensor]:
        """L with L L^T = K of each block's data, and L^-1 [y - F b, F].

        Arguments:
            near: Indices of data, shape `(blocks, n)`.
        """
        at = self.at[near]
        K = self.law.between(at, at)
        K.diagonal(dim1=-2, dim2=-1).add_(self.data.noise[near] + JITTER * self.law.variance)
        L = torch.linalg.cholesky(K)
        right = torch.cat([self.residual[near][..., None], self.data.design[near]], -1)
        return L, torch.linalg.solve_triangular(L, right, upper=False)

    def predict(self, near: Tensor, L: Tensor, solved: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of targets, each of shape `(blocks, t)`, from `factor`.

        Arguments:
            near: Indices of data, shape `(blocks, n)`.
            L: Shape `(blocks, n, n)`.
            solved: Shape `(blocks, n, 1 + terms)`.
            index: Indices of targets, shape `(blocks, t)`.
        """
        k = torch.linalg.solve_triangular(L, self.law.between(self.at[near], self.targets[index]), upper=False)
        product = k.mT @ solved
        design = self.design[index]
        g = design - product[..., 1:]
        mean = design @ self.trend.mean + product[..., 0]
        variance = self.law.variance - k.square().sum(-2) + ((g @ self.trend.covariance) * g).sum(-1)
        return mean, variance.clamp_min(0.0)


def moments(
    law: StationaryLaw,
    data: Observations,
    targets: Tensor,
    design: Tensor,
    coefficients: Coefficients,
    *,
    neighbours: int | None = None,
    tolerance: float = 0.01,
) -> Moments:
    """Return mean and variance of the field at targets; the same whatever the order of data and targets, to rounding.

    Arguments:
        law: Of the field.
        data: N data.
        targets: Positions, shape `(m, ndim)`, in units of the geometry.
        design: Trend functions at the targets, shape `(m, terms)`.
        coefficients: Posterior of the trend's coefficients given all data.
        neighbours: Data a target; by default all up to 1,000, and above that as many as the tolerance needs.
        tolerance: Largest change of the mean in standard deviations when the number of neighbours is doubled, root mean
            square; half of it for the relative change of the standard deviation.

    Raises:
        InfieldError: Data without noise at one place contradict each other.
    """
    at, data = settled(law, data)
    where = Places.of(law, targets)
    order = torch.from_numpy(where.order)
    trend = Coefficients(coefficients.mean.double().cpu(), coefficients.covariance.double().cpu())
    problem = _Problem(law, data, at.embedded, where.embedded, design.double().cpu()[order], trend)
    if (neighbours or len(data)) >= len(data) and (neighbours or len(data) <= MAX_DATA_EXACT):
        found = _exact(problem)
        number, change, change_std = len(data), 0.0, 0.0
    else:
        tree = cKDTree(at.search)
        number, change, change_std = neighbours or 0, float("nan"), float("nan")
        if neighbours is None:
            number, change, change_std = _choose(problem, where.search, tree, tolerance)
        found = _local(problem, where.search, tree, number)
    mean, variance = (torch.empty_like(part).index_copy_(0, order, part) for part in found)
    return Moments(mean, variance, number, change, change_std)


def _exact(problem: _Problem) -> tuple[Tensor, Tensor]:
    """Moments from all data, factored once."""
    near = torch.arange(len(problem.data))[None]
    L, solved = problem.factor(near)
    parts = torch.arange(len(problem.targets)).split(max(1, BATCH_NUMBERS // max(1, len(problem.data))))
    found = [problem.predict(near, L, solved, part[None]) for part in parts]
    return torch.cat([mean[0] for mean, _ in found]), torch.cat([variance[0] for _, variance in found])


def _local(problem: _Problem, search: np.ndarray, tree: cKDTree, number: int) -> tuple[Tensor, Tensor]:
    """Moments of every target from the data nearest to its block."""
    mean, variance = (problem.at.new_empty(len(search)) for _ in range(2))
    for index, centres in _stacked(blocks(search, tree, number), number):
        near = _nearest(tree, centres, number)
        part = problem.predict(near, *problem.factor(near), index)
        mean[index], variance[index] = part
    return mean, variance


def _choose(problem: _Problem, search: np.ndarray, tree: cKDTree, tolerance: float) -> tuple[int, float, float]:
    """Smallest number of neighbours within tolerance, and the changes of both moments on doubling it."""
    N = len(problem.data)
    number = min(MIN_NEIGHBOURS, MAX_NEIGHBOURS)
    while True:
        change, change_std = _change(problem, search, tree, number)
        if number == MAX_NEIGHBOURS or number >= N or (change <= tolerance and change_std <= tolerance / 2):
            return number, change, change_std
        number = min(2 * number, MAX_NEIGHBOURS, N)


def _change(problem: _Problem, search: np.ndarray, tree: cKDTree, number: int) -> tuple[float, float]:
    """Root mean square changes of mean and standard deviation from n to 2 n neighbours, on some targets."""
    found = blocks(search, tree, number)
    random = np.random.default_rng(number)
    changes = []
    for i in np.sort(random.permutation(len(found))[:PILOT_BLOCKS]):
        index, centre = found[i]
        chosen = torch.from_numpy(random.choice(index, min(PILOT_TARGETS, len(index)), replace=False))[None]
        few, many = (
            problem.predict(near, *problem.factor(near), chosen)
            for near in (_nearest(tree, centre[None], min(n, len(problem.data))) for n in (number, 2 * number))
        )
        std = many[1].sqrt().clamp_min(1e-4 * problem.law.variance**0.5)
        changes.append(torch.stack([(few[0] - many[0]) / std, few[1].sqrt() / std - many[1].sqrt() / std]).flatten(1))
    mean, std = torch.cat(changes, 1).square().mean(1).sqrt().tolist()
    return mean, std


def blocks(search: np.ndarray, tree: cKDTree, number: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Compact blocks of targets, with the centre of each.

    A block is halved along its longest side until it has at most `TARGETS` targets and its corners are nearer to its
    centre than half the distance from there to the datum that is number n.

    Arguments:
        search: Positions of targets for the search of neighbours, shape `(m, D)`.
        tree: Of the data.
        number: n, data a block.
    """
    done, pending = [], [np.arange(len(search))] if len(search) else []
    while pending:
        index = pending.pop()
        low, high = search[index].min(0), search[index].max(0)
        centre, half = (low + high) / 2, (high - low) / 2
        if len(index) == 1 or (
            len(index) <= TARGETS and 2 * np.linalg.norm(half) <= tree.query(centre, k=[min(number, tree.n)])[0][0]
        ):
            done.append((np.sort(index), centre))
            continue
        middle = len(index) // 2
        halves = np.argpartition(search[index, half.argmax()], middle)
        pending += [index[halves[:middle]], index[halves[middle:]]]
    return done


def _nearest(tree: cKDTree, centres: np.ndarray, number: int) -> Tensor:
    """Indices of the data nearest to each centre, shape `(blocks, n)`."""
    return torch.from_numpy(tree.query(centres, k=range(1, number + 1))[1])


def _stacked(found: list[tuple[np.ndarray, np.ndarray]], number: int) -> Iterator[tuple[Tensor, np.ndarray]]:
    """Blocks of nearly equal size, stacked; short ones repeat their last target.

    Returns:
        Indices of targets, shape `(blocks, t)`, and centres, shape `(blocks, D)`.
    """
    found = sorted(found, key=lambda block: -len(block[0]))
    while found:
        size = len(found[0][0])
        count = max(1, BATCH_NUMBERS // (number * (number + size)))
        batch, found = found[:count], found[count:]
        index = np.stack([np.pad(index, (0, size - len(index)), mode="edge") for index, _ in batch])
        yield torch.from_numpy(index), np.stack([centre for _, centre in batch])
