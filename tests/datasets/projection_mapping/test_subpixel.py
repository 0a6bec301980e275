"""Positions by strong bits alone, and between pixels from contrasts, of a raster that is seen pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest

from infield.datasets.projection_mapping.gray_code import patterns
from infield.datasets.projection_mapping.subpixel import WEAK, _best_position, _costs, decode_strong

HEIGHT, WIDTH = 16, 32


def captures() -> np.ndarray:
    return 10.0 + 200.0 * patterns(HEIGHT, WIDTH)


def test_with_all_bits_each_pixel_has_its_own_position():
    lit = np.ones((HEIGHT, WIDTH), dtype=bool)
    lit[3, 4] = False
    decoded, cell = decode_strong(captures(), lit, HEIGHT, WIDTH)
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    assert cell == 1 and (decoded.valid == lit).all()
    assert (decoded.row == v).all() and (decoded.column == u).all()


def test_weak_bits_leave_the_middle_of_a_cell():
    """The two finest of five bits of columns are blurred: cells of four, at 1.5, 5.5, ...; of rows none is."""
    gray, lit = captures(), np.ones((HEIGHT, WIDTH), dtype=bool)
    for bit in (3, 4):
        gray[2 * bit : 2 * bit + 2] = 100.0
        gray[2 * bit] += WEAK - 1
    decoded, cell = decode_strong(gray, lit, HEIGHT, WIDTH)
    v, u = np.mgrid[:HEIGHT, :WIDTH]
    assert cell == 4 and decoded.valid.all()
    assert (decoded.column == 4 * (u // 4) + 1.5).all() and (decoded.row == v).all()
    gray[8] = gray[9] + WEAK + 1  # the finest again has contrast: none is left out
    assert decode_strong(gray, lit, HEIGHT, WIDTH)[1] == 1


def test_three_bits_are_always_kept_and_two_undecided_ones_are_too_many():
    gray, lit = captures(), np.ones((HEIGHT, WIDTH), dtype=bool)
    gray[:10] = 100.0
    gray[:10:2] += 4.0  # below the threshold of 5: all bits of columns are undecided
    decoded, cell = decode_strong(gray, lit, HEIGHT, WIDTH)
    assert cell == 4 and not decoded.valid.any()
    gray = captures()
    gray[0, :, 7] = gray[1, :, 7] + 4.9  # one undecided bit
    gray[2, 2, 7] = gray[3, 2, 7]  # and a second in one pixel
    valid = decode_strong(gray, lit, HEIGHT, WIDTH)[0].valid
    assert valid.sum() == HEIGHT * WIDTH - 1 and not valid[2, 7]


@pytest.mark.parametrize("sigma", [0.6, 1.25, 2.2])
def test_the_position_is_where_the_contrasts_are(sigma):
    """Contrasts by the model itself at known offsets, exact to a small part of the step of the search."""
    lines = patterns(4, 64)[:12:2, 0][-5:].astype(float)
    start = np.concatenate([np.linspace(8.0, 27.0, 30), np.linspace(36.0, 55.0, 30)])  # the code mirrors about 31.5
    true = start + np.random.default_rng(0).uniform(-1, 1, 60)
    fine = np.repeat(2 * lines - 1, 32, axis=1)
    at = (np.arange(64 * 32) + 0.5) / 32 - 0.5
    contrast = np.empty((5, 1, 60))
    for line, row in zip(fine, contrast, strict=True):
        for i, place in enumerate(true):  # a Gaussian mean, summed directly
            weight = np.exp(-0.5 * ((at - place) / sigma) ** 2)
            row[0, i] = (weight * line).sum() / weight.sum()
    coarse = start[None].copy()
    coarse[0, 5] = np.nan
    found, misfit = _best_position(lines, contrast, coarse, 1.5)
    known = np.isfinite(coarse)
    assert np.abs(found[known] - true[None][known]).max() < 0.06
    assert misfit[known].max() < 0.05 and np.isinf(misfit[0, 5]) and found[0, 5] == 0
    costs = _costs(lines, sigma, contrast[:, 0], start, 1.5)
    assert costs.shape == (25, 60)  # -1.5 ... 1.5 in steps of an eighth
    away = _costs(lines, sigma, contrast[:, 0] + 0.5, true, 0.0)
    assert away[0] == pytest.approx(np.full(60, 5 * 0.25), rel=0.1)
