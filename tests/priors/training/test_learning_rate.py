"""The learning rate of the trainings: a linear warm-up, then half a cosine down to a hundredth of the peak."""

from __future__ import annotations

import math
from itertools import pairwise
from types import SimpleNamespace

import pytest
import torch

from infield.priors.training.common import adamw_with_cosine

PEAK = 0.4


def rates(total, warmup, steps):
    """Learning rates of a run of `total` steps."""
    parameter = torch.nn.Parameter(torch.zeros(1))
    module = SimpleNamespace(parameters=lambda: [parameter], trainer=SimpleNamespace(estimated_stepping_batches=total))
    chosen = adamw_with_cosine(module, PEAK, 0.03, warmup)
    optimizer, schedule = chosen["optimizer"], chosen["lr_scheduler"]
    assert schedule["interval"] == "step" and optimizer.param_groups[0]["weight_decay"] == 0.03
    found = []
    for _ in range(steps):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule["scheduler"].step()
    return found


def test_it_falls_as_half_a_cosine():
    found = rates(100, 0, 101)
    assert found[0] == pytest.approx(PEAK)
    assert found[50] == pytest.approx(PEAK * (1 + 0.01) / 2)  # half way
    assert found[25] == pytest.approx(PEAK * (0.505 + 0.495 * math.sqrt(0.5)))  # cos(pi / 4)
    assert found[75] == pytest.approx(PEAK * (0.505 - 0.495 * math.sqrt(0.5)))
    assert found[100] == pytest.approx(PEAK / 100)
    assert all(a > b for a, b in pairwise(found))


def test_it_stays_at_a_hundredth_beyond_the_run():
    assert rates(10, 0, 16)[10:] == pytest.approx([PEAK / 100] * 6)


def test_the_warm_up_is_linear_and_ends_after_its_steps():
    cosine, found = rates(1000, 0, 8), rates(1000, 4, 8)
    shares = [rate / plain for rate, plain in zip(found, cosine, strict=True)]
    assert shares == pytest.approx([1 / 5, 2 / 5, 3 / 5, 4 / 5, 1, 1, 1, 1])
