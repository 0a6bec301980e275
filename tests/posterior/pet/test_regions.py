"""Intervals of few draws cover exactly what they state; regional ratios are taken draw by draw."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch

from infield.core.errors import InfieldError
from infield.posterior.diagnostics.order_statistics import ORDER_STATISTICS, largest_probability, order_interval
from infield.posterior.pet.regions import regional_changes, regional_suvr


def normal(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("n", "exact"), [(19, Fraction(9, 10)), (24, Fraction(23, 25)), (59, Fraction(9, 10))])
def test_an_interval_holds_a_new_draw_with_its_probability(n, exact):
    draws, new = normal(n, 100_000), normal(100_000, seed=1)
    low, high, level = order_interval(draws, 0.9)
    assert level == exact >= Fraction(9, 10)
    error = (float(level) * (1 - float(level)) / 100_000) ** 0.5
    assert abs(float(((new >= low) & (new <= high)).double().mean()) - float(level)) < 4 * error
    q = torch.quantile(draws, torch.tensor([0.05, 0.95], dtype=torch.float64), dim=0)
    assert float(((new >= q[0]) & (new <= q[1])).double().mean()) < 0.9 - 4 * error  # the negative control


def test_bands_of_few_draws_hold_what_they_state():
    draws, new = normal(24, 100_000).numpy(), normal(100_000, seed=1).numpy()
    held = []
    for method in (ORDER_STATISTICS, "linear"):
        low, high = np.quantile(draws, [0.05, 0.95], axis=0, method=method)
        held.append(float(((new >= low) & (new <= high)).mean()))
    assert held[0] == pytest.approx(0.9, abs=0.01) and held[1] < 0.84
    inside = (new >= draws[:9].min(0)) & (new <= draws[:9].max(0))
    assert float(inside.mean()) == pytest.approx(largest_probability(9), abs=0.01)


def test_too_few_draws_are_refused():
    with pytest.raises(InfieldError, match="18 draws, expected at least 19"):
        order_interval(normal(18), 0.9)
    with pytest.raises(InfieldError, match="a level between 0 and 1"):
        order_interval(normal(18), 1.0)


def test_changes_are_of_ratios_draw_by_draw():
    gain = (0.1 * normal(39)).exp()[:, None, None, None]  # the reference's error multiplies whole images
    image = torch.ones((1, 2, 2, 2), dtype=torch.float64)
    image[:, 1] = 1.4
    draws = gain * image
    cortex, reference = torch.zeros((2, 2, 2), dtype=torch.bool), torch.zeros((2, 2, 2), dtype=torch.bool)
    cortex[1], reference[0] = True, True
    after = regional_suvr(draws, {"cortex": cortex}, reference)
    torch.testing.assert_close(after["cortex"], torch.full((39,), 1.4, dtype=torch.float64))
    before = {"cortex": torch.tensor([1.3], dtype=torch.float64)}
    (found,) = regional_changes(before, {"cortex": after["cortex"] + 0.01 * normal(39, seed=2)})
    assert found.level == 0.9 and found.low < found.change < found.high and found.exceeds == 1
    assert found.change == pytest.approx(0.1, abs=0.01)
    assert found.in_centiloid(188.22).high == pytest.approx(188.22 * found.high)
    with pytest.raises(InfieldError, match="region 'empty': found 0 voxels"):
        regional_suvr(draws, {"empty": ~(cortex | reference)}, reference)
