"""Which data of an operator taken over from deepinv are measured, and the weights of a sum of operators."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from infield import InfieldError
from infield.core.grid import Grid
from infield.physics.operators.composition import build_sum
from infield.physics.operators.registry import build_operator

GRID = Grid.regular((4, 6), periodic=True)
MASK = (np.arange(24).reshape(4, 6) % 3 > 0).astype(float)


@pytest.mark.parametrize("kind", ["Inpainting", "MRI"])
def test_data_are_measured_where_the_mask_is_not_zero(kind):
    operator = build_operator({"name": f"deepinv:{kind}", "arrays": {"mask": "m"}}, {"m": MASK}, GRID, 2)
    assert operator.observed.shape == operator.data_shape == (2, 4, 6)
    assert torch.equal(operator.observed, torch.from_numpy(MASK > 0).expand(2, 4, 6))


@pytest.mark.parametrize("weights", [[1.0, math.inf], [math.nan, 1.0], ["1", 1.0], [1.0], None])
def test_a_sum_takes_one_finite_number_an_operator(weights):
    operator = build_operator({"name": "mask", "arrays": {"mask": "m"}}, {"m": MASK > 0}, GRID, 1)
    x = torch.ones(1, 1, 4, 6, dtype=torch.float64)
    torch.testing.assert_close(build_sum([2, -0.5], [operator, operator]).A(x), 1.5 * operator.A(x))
    with pytest.raises(InfieldError, match="expected 2 finite numbers"):
        build_sum(weights, [operator, operator])
