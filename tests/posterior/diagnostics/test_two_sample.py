"""The classifier two-sample test: chance for equal laws, more for laws that differ in one of many ways."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from infield import InfieldError
from infield.core.grid import Grid
from infield.posterior.diagnostics.two_sample import classifier_accuracy, principal_components
from infield.priors.gaussian.kernels import Matern

GRID = Grid.regular((64,), 1.0, periodic=True)


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def fields(seed: int, length: float = 0.2, n: int = 256) -> Tensor:
    return Matern(1.5, length).covariance(GRID).sample(n, rng(seed))


def accuracy(x: Tensor) -> float:
    return classifier_accuracy(x, fields(0), components=16, folds=4)


def test_equal_laws_are_told_apart_as_often_as_by_a_coin():
    found = torch.tensor([accuracy(fields(seed)) for seed in (1, 2)])
    assert float((found - 0.5).abs().max()) < 0.09  # four standard deviations of 512 coins
    assert accuracy(fields(1)) == accuracy(fields(1))


@pytest.mark.parametrize("wrong", ["shifted", "too wide", "rougher", "with white noise", "another shape of law"])
def test_other_laws_are_seen(wrong):
    x = {
        "shifted": fields(1) + 1.0,
        "too wide": 1.5 * fields(1),
        "rougher": fields(1, length=0.1),
        "with white noise": fields(1) + 0.3 * torch.randn((256, 1, 64), generator=rng(5), dtype=torch.float64),
        "another shape of law": fields(1) * torch.randn((256, 1, 1), generator=rng(6), dtype=torch.float64).abs() ** 2,
    }[wrong]
    assert accuracy(x) > 0.6


def test_principal_components_are_white_and_only_those_that_there_are():
    x = torch.randn((50, 3), generator=rng(1), dtype=torch.float64) @ torch.randn((3, 9), generator=rng(2)).double()
    z = principal_components(x, 8)
    assert z.shape == (50, 3)
    torch.testing.assert_close(torch.cov(z.mT), torch.eye(3, dtype=torch.float64))


def test_sets_that_cannot_be_compared_are_refused():
    with pytest.raises(InfieldError, match="expected equal"):
        classifier_accuracy(fields(0), fields(1, n=100))
    with pytest.raises(InfieldError, match="NaN"):
        classifier_accuracy(fields(0) * torch.nan, fields(1))
