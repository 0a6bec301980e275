"""Positions, orders of axes and times of planes: what is right, what is not, and where the line between them is."""

from __future__ import annotations

import numpy as np
import pytest

from infield.core.errors import InfieldError
from infield.datasets.wall_pressure.readers.checks import (
    check_order,
    checked_times,
    even,
    neighbour_correlation,
    spans,
    time_gaps,
)


def test_even_positions_have_a_first_value_and_a_step():
    assert even("x", np.array([2.0, 2.5, 3.0, 3.5])) == (2.0, 0.5)
    assert even("x", np.array([0.0, 1.0 + 9e-4, 2.0])) == (0.0, 1.0)  # a thousandth of a step
    assert even("x", np.array([0.0, 0.3])) == (0.0, 0.3)
    rounded = np.float32(1e6 + 0.05 * np.arange(20))  # float32 cannot hold them: 0.0625 apart
    first, step = even("x", rounded)
    assert first == 1e6 and step == pytest.approx(0.05, rel=0.1)


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([0.0, 1.0 + 1.1e-3, 2.0], "uneven positions, 1.0011 where 1 is even"),
        ([0.0], "1 positions, expected at least 2"),
        ([0.0, np.nan, 2.0], "all of them finite"),
        ([1.0, 1.0, 1.0], "positions from 1 to 1, expected increasing"),
        ([2.0, 1.0, 0.0], "from 2 to 0, expected increasing"),
    ],
)
def test_positions_that_are_not_even(values, words):
    with pytest.raises(InfieldError, match=words):
        even("x", np.array(values))


def test_points_that_fill_a_period():
    assert spans(10, 0.1, 1.0) and not spans(9, 0.1, 1.0) and not spans(11, 0.1, 1.0)
    assert spans(10, 0.1, 1.0 / 1.029) and not spans(10, 0.1, 1.0 / 1.031)  # 0.3 of a spacing of ten


def test_correlations_of_neighbours_by_hand():
    plane = np.array([[1.0, 1.0, -1.0], [1.0, 1.0, -1.0], [-1.0, -1.0, 1.0], [-1.0, -1.0, 1.0]])
    assert plane.mean() == 0
    along_first, along_second = (3 - 3 + 3) / 9, (1 - 1) / 2
    assert neighbour_correlation(plane) == pytest.approx((along_first, along_second))
    assert neighbour_correlation(plane + 7) == pytest.approx((along_first, along_second))
    assert neighbour_correlation(np.ones((3, 3))) == (1.0, 1.0)
    assert neighbour_correlation(np.array([[np.nan, 1.0], [2.0, 3.0]])) == (1.0, 1.0)


@pytest.mark.parametrize("z_is_fastest", [False, True])
def test_a_wrong_order_of_axes_is_refused(z_is_fastest):
    z, x = np.mgrid[:24, :32]
    plane = np.sin(2 * np.pi * z / 24) if z_is_fastest else np.cos(2 * np.pi * x / 32)
    check_order("p", plane, z_is_fastest=z_is_fastest)
    file = (plane.T if z_is_fastest else plane).ravel()  # and read with nz and nx exchanged
    wrong = file.reshape(24, 32) if z_is_fastest else file.reshape(32, 24)
    wrong = wrong.T if z_is_fastest else wrong
    with pytest.raises(InfieldError, match=r"related .* where z and x change places"):
        check_order("p", wrong, z_is_fastest=z_is_fastest)
    noise = np.random.default_rng(0).standard_normal((24, 32))  # unrelated in every order
    check_order("p", noise, z_is_fastest=z_is_fastest)


def test_gaps_are_steps_of_more_than_one_and_a_half():
    """One missing plane makes two steps of one; rounding of times makes a step somewhat longer."""
    assert time_gaps(np.array([0.0, 1.0, 2.0, 4.0, 5.0, 8.5])) == [(3, 2.0), (5, 3.5)]
    assert time_gaps(np.array([0.0, 1.0, 2.0, 3.4, 4.4])) == []
    assert time_gaps(np.array([0.0, 1.0])) == [] == time_gaps(np.array([0.0]))
    many = np.cumsum(np.concatenate([np.ones(60), np.full(25, 2.0)]))
    assert [place for place, _ in time_gaps(many)] == list(range(60, 80))  # the first twenty


def test_times_increase_and_gaps_are_noted():
    notes: list[str] = []
    assert checked_times("f", np.array([0, 1, 2]), notes.append).dtype == np.float64 and not notes
    checked_times("f", np.array([0.0, 1.0, 2.0, 4.0, 5.0, 8.5]), notes.append)
    checked_times("f", np.array([0.0, 1.0, 2.0, 4.0]), notes.append)
    assert [words.partition(";")[0] for words in notes] == [
        "2 gaps in time, the longest of 3.5 usual steps",
        "1 gap in time, the longest of 2 usual steps",
    ]
    with pytest.raises(InfieldError, match="2 after 3 at plane 2, expected increasing"):
        checked_times("f", np.array([1.0, 3.0, 2.0, 4.0]), notes.append)
    with pytest.raises(InfieldError, match="1 after 1 at plane 1"):
        checked_times("f", np.array([1.0, 1.0]), notes.append)
    with pytest.raises(InfieldError, match="NaN or infinity"):
        checked_times("f", np.array([0.0, np.inf]), notes.append)
