"""What counts as a number; a truth value does not."""

import math

import numpy as np
import pytest

from infield.core.checks import is_number, is_positive, is_whole


@pytest.mark.parametrize(
    ("value", "number", "positive", "whole"),
    [
        (1, True, True, True),
        (0.5, True, True, False),
        (0, True, False, True),
        (-2.5, True, False, False),
        (-1, True, False, False),
        (np.float64(0.5), True, True, False),  # a float, as numpy has it
        (True, False, False, False),
        (math.inf, False, False, False),
        (math.nan, False, False, False),
        ("1", False, False, False),
        (None, False, False, False),
        ([1.0], False, False, False),
    ],
)
def test_numbers(value, number, positive, whole):
    assert (is_number(value), is_positive(value), is_whole(value)) == (number, positive, whole)


def test_the_least_whole_number():
    assert is_whole(2, 2) and not is_whole(1, 2) and is_whole(-3, -3)
