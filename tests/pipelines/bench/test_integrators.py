"""Integrators beside the flow of a Gaussian, x_t = t m + sqrt(t^2 s^2 + (1 - t)^2) x_0: their orders and calls."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from infield.pipelines.bench.integrators import close_at_ends, dpm_solver, heun, midpoint, uniform

MEAN, SD = 1.5, 0.4


class Flow:
    """From N(0, 1) at t = 0 to N(m, s^2) at t = 1; it refuses t = 1 and counts its calls."""

    def __init__(self, sd: float = SD) -> None:
        self.sd, self.times = sd, []  # type: ignore[var-annotated]

    def velocity(self, x: Tensor, t: float, context: Any = None) -> Tensor:
        assert t < 1
        self.times.append(t)
        slope = (t * self.sd**2 - (1 - t)) / (t**2 * self.sd**2 + (1 - t) ** 2)
        return MEAN + slope * (x - t * MEAN)


def error(method: Callable[..., Tensor], times: list[float]) -> float:
    x = torch.tensor([-1.0, 0.3, 2.0], dtype=torch.float64)
    return float((method(Flow(), x, times) - (MEAN + SD * x)).abs().max())


@pytest.mark.parametrize("method", [heun, midpoint, dpm_solver])
@pytest.mark.parametrize("places", [uniform, close_at_ends])
def test_they_are_of_second_order_at_least(method, places):
    """Half the step, at most about a quarter of the error; Euler's method would leave a half."""
    errors = [error(method, places(n)) for n in (64, 128, 256)]
    ratios = [errors[0] / errors[1], errors[1] / errors[2]]
    assert min(ratios) > 3 or errors[1] < 1e-9, (errors, ratios)


def euler(prior: Any, x: Tensor, times: list[float]) -> Tensor:
    for t, t_next in itertools.pairwise(times):
        x = x + (t_next - t) * prior.velocity(x, t)
    return x


def test_a_method_of_first_order_is_told_apart():
    assert error(euler, uniform(64)) / error(euler, uniform(128)) < 2.3
    for method in (heun, midpoint, dpm_solver):
        assert error(method, uniform(32)) < 0.2 * error(euler, uniform(32))


@pytest.mark.parametrize(("method", "calls"), [(heun, 15), (midpoint, 16), (dpm_solver, 8)])
def test_eight_steps_cost_what_they_say(method, calls):
    flow = Flow()
    method(flow, torch.zeros(1, dtype=torch.float64), uniform(8))
    assert len(flow.times) == calls


@pytest.mark.parametrize("places", [uniform, close_at_ends])
def test_data_at_one_point_are_reached_at_once(places):
    """Then E[x_1 | x_t] is that point whatever x_t is, and DPM-Solver, exact in it, has no error at all."""
    flow = Flow(sd=0.0)
    found = dpm_solver(flow, torch.tensor([-3.0, 5.0], dtype=torch.float64), places(5))
    assert found.tolist() == pytest.approx([MEAN, MEAN])


def test_times():
    assert uniform(4) == [0, 0.25, 0.5, 0.75, 1]
    assert close_at_ends(3) == pytest.approx([0, math.sin(math.pi / 6) ** 2, math.sin(math.pi / 3) ** 2, 1])
