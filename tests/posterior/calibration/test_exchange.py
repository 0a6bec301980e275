"""The exchange test on draws of a known posterior: injected faults are found, right draws are not blamed."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Generator

from infield.core.grid import Grid
from infield.posterior.calibration.exchange import (
    ALARM,
    correlations,
    exchange_test,
    normal_scores,
    smallest_faults,
    with_fault,
)
from infield.posterior.calibration.functionals import choose, evaluate, predeclared
from infield.posterior.calibration.synthetic import SyntheticPosterior

SIMULATIONS, DRAWS, REPEATS = 64, 32, 20


@pytest.fixture(scope="module")
def posterior():
    return SyntheticPosterior.of_points()


def p_value(posterior, seed, width=1.0, shift=0.0):
    generator = Generator().manual_seed(seed)
    fields = posterior.draw(SIMULATIONS, DRAWS, generator, width=width, shift=shift)
    return posterior.judge(fields, generator, exchanges=999).p


def alarms(posterior, **fault):
    return sum(p_value(posterior, 100 + i, **fault) < ALARM for i in range(REPEATS))


@pytest.mark.parametrize("fault", [{"width": 0.8}, {"width": 1.25}, {"shift": 0.3}, {"shift": -0.3}])
def test_faults_are_found(posterior, fault):
    assert alarms(posterior, **fault) >= 0.95 * REPEATS


def test_right_draws_are_not_blamed(posterior):
    assert alarms(posterior) <= 1


def test_scores_are_permutations_of_one_grid_and_ties_are_ordered_at_random():
    values = torch.randn((5, 9, 3), generator=Generator().manual_seed(0), dtype=torch.float64)
    values[:, :, 2] = 1.0
    scores = normal_scores(values, Generator().manual_seed(1))
    grid = torch.special.ndtri((torch.arange(9, dtype=torch.float64) + 0.5) / 9)
    assert torch.allclose(scores.sort(1).values, grid[None, :, None].expand_as(scores))
    assert torch.equal(scores[:, :, 0].argsort(1), values[:, :, 0].argsort(1))
    assert len({tuple(row.tolist()) for row in scores[:, :, 2]}) > 1


def test_p_values_are_uniform_under_exchange_whatever_the_correlation():
    generator = Generator().manual_seed(3)
    common = torch.randn((200, 12, 9, 1), generator=generator, dtype=torch.float64)
    values = common + 0.3 * torch.randn((200, 12, 9, 5), generator=generator, dtype=torch.float64)
    p = torch.tensor(
        [
            exchange_test(normal_scores(v, generator), torch.ones(5, dtype=torch.bool), generator, exchanges=599).p
            for v in values
        ]
    )
    assert abs(float(p.mean()) - 0.5) < 4 * math.sqrt(1 / 12 / 200)
    assert float((p < 0.1).double().mean()) == pytest.approx(0.1, abs=0.07)


def test_power_is_stated_and_grows_with_the_number_of_simulations(posterior):
    generator = Generator().manual_seed(5)
    values = posterior.values(posterior.draw(64, 16, generator))
    one_sign = torch.tensor([f.one_sign for f in posterior.functionals])
    few = smallest_faults(values[:20, :, :8], one_sign[:8], generator)
    many = smallest_faults(values[:, :, :8], one_sign[:8], generator)
    assert few.too_narrow < many.too_narrow < 1 < many.too_wide < few.too_wide
    assert 0 < many.shift < few.shift


def test_a_fault_is_what_it_says():
    values = torch.randn((3, 2001, 2), generator=Generator().manual_seed(0), dtype=torch.float64)
    wrong = with_fault(values, 0.5, 2.0)
    assert torch.equal(wrong[:, 0], values[:, 0])
    assert torch.allclose(wrong[:, 1:].std(1), 0.5 * values[:, 1:].std(1))
    assert torch.allclose(wrong[:, 1:].mean(1), values[:, 1:].mean(1) + 2 * values[:, 1:].std(1))


def test_chosen_functionals_hardly_correlate(posterior):
    generator = Generator().manual_seed(1)
    grid = Grid.regular((12, 12))
    functionals = predeclared(grid, ("field",))
    fields = posterior.draw(20, 16, generator)
    values = torch.stack([evaluate(functionals, f) for f in fields])
    scores = normal_scores(values, generator)
    chosen, largest = choose(functionals, correlations(scores), values.std(1).mean(0))
    assert 8 <= len(chosen) <= 16 and largest < 0.3
    assert any(functionals[j].name.startswith("log power") for j in chosen)
