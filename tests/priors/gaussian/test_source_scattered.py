"""Laws on many scattered points by leading directions: how far from the law, at what cost."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from infield import InfieldError
from infield.core.grid import Axis, Grid, PointSet
from infield.priors.covariance.base import Covariance
from infield.priors.covariance.modes import Eigenbasis, LeadingDirections, Pixels
from infield.priors.gaussian import kernels as source
from infield.priors.gaussian import pivoted_cholesky as low_rank
from infield.priors.gaussian.kernels import Matern
from infield.priors.gaussian.matern import matern_matrix
from infield.priors.gaussian.pivoted_cholesky import PartialCholesky, pivoted_cholesky
from infield.priors.gaussian.prior import gaussian_prior


def scattered(n: int, seed: int = 0) -> PointSet:
    places = np.random.default_rng(seed).random((n, 2))
    return PointSet(tuple(map(tuple, places.tolist())), ("y", "x"))


def matrix(C: Covariance) -> Tensor:
    n = math.prod(C.event_shape)
    return C.apply(torch.eye(n, dtype=torch.float64).reshape(n, *C.event_shape)).flatten(1)


def partial(K: Tensor, rank: int) -> PartialCholesky:
    return pivoted_cholesky(lambda i: K[i], K.diagonal().clone(), rank)


POINTS, LAW = scattered(150), Matern(1.5, 0.4, 2.0)
K = matern_matrix(POINTS.points(), nu=1.5, length=0.4, variance=2.0)


@pytest.mark.parametrize("rank", [5, 20, 60])
def test_the_distance_from_the_law_is_at_most_the_trace_that_is_left(rank):
    found = partial(K, rank)
    left = float(found.left.sum())
    E = K - found.factor @ found.factor.mT
    torch.testing.assert_close(E.diagonal(), found.left, rtol=0, atol=1e-12)
    assert torch.linalg.eigvalsh(E).min() > -1e-12
    assert found.residual_fraction == pytest.approx(left / float(K.trace()))
    for C in (found.to_eigenmodes(POINTS.shape), found.to_modes(Pixels(), POINTS.shape)):
        assert C.trace == pytest.approx(float(K.trace()))
        assert float(torch.linalg.matrix_norm(matrix(C) - K, 2)) <= left
    best = float(torch.linalg.eigvalsh(K)[: len(K) - rank].sum())  # no approximation of this rank leaves less
    assert best <= left < 6 * best


def test_more_directions_leave_less_and_all_of_them_nothing():
    shares = [partial(K, rank).residual_fraction for rank in (1, 10, 40, 120)]
    assert shares == sorted(shares, reverse=True) and shares[0] > 0.3 > 1e-3 > shares[-1]
    everything = partial(K, 150)
    torch.testing.assert_close(matrix(everything.to_eigenmodes((150,))), K, rtol=0, atol=1e-9)
    smooth = matern_matrix(POINTS.points(), nu=20.0, length=3.0, variance=2.0)
    stopped = partial(smooth, 150)
    assert stopped.factor.shape[1] < 60 and stopped.residual_fraction <= low_rank.NEGLIGIBLE


def test_a_law_of_given_rank_is_diagonal_in_its_own_modes_and_low_rank_in_others():
    law = Matern(1.5, 0.4, 2.0, rank=40)
    C = law.covariance(POINTS, 2)
    assert isinstance(C.modes, LeadingDirections) and C.rank == 0 and C.event_shape == (2, 150)
    bound = float(partial(K, 40).left.sum())
    assert float(torch.linalg.matrix_norm(matrix(law.covariance(POINTS)) - K, 2)) <= bound < 0.06 * float(K.trace())
    inside = law.covariance_in(Pixels(), POINTS)
    assert inside.rank == 40 and float(torch.linalg.matrix_norm(matrix(inside) - K, 2)) <= bound
    grid = Grid.regular((4, 5), periodic=True)  # images add to the variance
    torch.testing.assert_close(
        *(matrix(kernel.covariance(grid)) for kernel in (Matern(1.5, 0.3, rank=20), Matern(1.5, 0.3)))
    )


def test_many_points_take_few_directions_of_themselves(monkeypatch):
    monkeypatch.setattr(source, "DENSE_LIMIT", 100)
    monkeypatch.setattr(source, "AUTOMATIC_RANK", 60)
    assert isinstance(LAW.covariance(scattered(99)).modes, Eigenbasis)
    C = LAW.covariance(POINTS)
    assert isinstance(C.modes, LeadingDirections)
    uneven = Grid((Axis("x", tuple(float(i) ** 1.1 / 100 for i in range(200))),))
    assert isinstance(LAW.covariance(uneven).modes, LeadingDirections)
    with pytest.raises(InfieldError, match=r"of its variance outside 60 directions, expected at most 5%.*`rank`"):
        Matern(0.5, 0.02).covariance(POINTS)
    assert Matern(0.5, 0.02, rank=60).covariance(POINTS).event_shape == (1, 150)


def test_no_array_is_larger_than_points_by_rank(monkeypatch):
    """O(N r) by what is stored and what is asked of the covariance function: no clock."""
    n, rank, asked = 3000, 25, []
    original = source.matern_between

    def counting(x: Tensor, y: Tensor, **law: object) -> Tensor:
        asked.append(len(x) * len(y))
        return original(x, y, **law)

    monkeypatch.setattr(source, "matern_between", counting)
    prior = gaussian_prior(Matern(1.5, 0.5, rank=rank), scattered(n))
    assert asked == [n] * rank
    C = prior.covariance
    sizes = [t.numel() for t in (C.diagonal, C.factors, *vars(C.modes).values()) if isinstance(t, Tensor)]
    assert max(sizes) <= n * rank
    assert prior.velocity(torch.zeros(2, 1, n, dtype=torch.float64), 0.5).shape == (2, 1, n)
    x = C.sample(2000, torch.Generator().manual_seed(0))
    assert float(x.var()) == pytest.approx(1.0, rel=0.05)
