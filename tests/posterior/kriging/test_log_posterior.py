"""The search and the curvature, of a parabola whose maximum and second derivatives are known."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from infield.posterior.kriging.log_posterior import GAIN, LEAST_CURVATURE, LogPosterior, definite

H = torch.tensor([[3.0, 0.5, 0.0], [0.5, 40.0, -2.0], [0.0, -2.0, 1.0]], dtype=torch.float64)
BEST = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)


class Parabola(LogPosterior):
    """offset - (theta - best)^T H (theta - best) / 2; a Cholesky factor fails beyond a wall."""

    def __init__(self, offset: float = 0.0, wall: float = math.inf) -> None:
        object.__setattr__(self, "offset", offset)
        object.__setattr__(self, "wall", wall)

    def log_evidence(self, theta: Tensor) -> float:
        if float(theta.max()) > self.wall:  # type: ignore[attr-defined]
            raise torch.linalg.LinAlgError("not positive definite")
        away = theta - BEST
        return self.offset - 0.5 * float(away @ H @ away)  # type: ignore[attr-defined]

    def gradient(self, theta: Tensor) -> tuple[float, Tensor]:
        return self.log_evidence(theta), -H @ (theta - BEST)

    @property
    def family(self) -> Any:  # type: ignore[override]
        class Flat:
            @staticmethod
            def log_prior(theta: Tensor) -> float:
                return -0.25

        return Flat


@pytest.mark.parametrize("offset", [0.0, -3e4, 2e5])
@pytest.mark.parametrize("metric", [None, H, torch.diag(H.diagonal())])
def test_the_search_ends_where_little_is_left_to_gain(offset, metric):
    """Whatever the size of the evidence: the gain that ends it is absolute."""
    of = Parabola(offset)
    found = of.maximum(BEST + torch.tensor([2.0, -1.0, 4.0], dtype=torch.float64), metric)
    left = 0.5 * float((found - BEST) @ H @ (found - BEST))
    assert left < 5 * GAIN
    if metric is H:
        assert left < 1e-3 * GAIN  # where H is right, one step is enough


def test_places_without_a_factor_are_avoided():
    start = BEST + torch.tensor([-1.0, 0.0, -1.0], dtype=torch.float64)
    found = Parabola(wall=1.5).maximum(start)
    assert 0.5 * float((found - BEST) @ H @ (found - BEST)) < 5 * GAIN
    assert Parabola(wall=0.5).value(BEST) == -math.inf and Parabola(wall=2.0).value(BEST) == -0.25


def test_the_curvature_is_minus_the_second_derivative():
    for step in (0.02, 0.5):
        found = Parabola(offset=7.0).curvature(BEST + 1, step)
        torch.testing.assert_close(found, H, atol=1e-9, rtol=0)


def test_a_penalty_of_half_a_logarithm_a_parameter():
    of = Parabola()
    assert of.penalised(BEST, 100) == pytest.approx(of.value(BEST) - 1.5 * math.log(100))


def test_curvatures_are_made_definite():
    turn = torch.linalg.qr(torch.randn(3, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)).Q
    values = torch.tensor([5.0, 0.01, -3.0], dtype=torch.float64)
    expected = turn @ torch.diag(torch.tensor([5.0, LEAST_CURVATURE, LEAST_CURVATURE], dtype=torch.float64)) @ turn.mT
    torch.testing.assert_close(definite(turn @ torch.diag(values) @ turn.mT), expected)
    torch.testing.assert_close(definite(H), H)
