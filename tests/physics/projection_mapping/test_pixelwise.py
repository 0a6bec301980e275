"""Peers that solve each pixel alone, and smooth gains and lifts, beside values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from infield.physics.projection_mapping import scale
from infield.physics.projection_mapping.pixelwise import least_squares_clipped, linear_clipped, secant_slope
from infield.physics.projection_mapping.scale import _smooth_percentile


def columns() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two projectors over three pixels: mixings `(pixel, channel, primary)`; the last pixel is seen by the second
    alone."""
    rng = np.random.default_rng(0)
    first, second = (np.eye(3) + 0.2 * rng.random((3, 3, 3)) for _ in range(2))
    first[2] = 0
    return np.concatenate([first, second], axis=2).transpose(0, 2, 1), first, second


def test_each_projector_inverts_its_share():
    V, first, second = columns()
    b = np.array([[0.4, 0.5, 0.3], [0.2, 0.3, 0.9], [0.5, 0.4, 0.3]])
    weights = np.repeat(np.array([[3.0, 1.0], [1.0, 1.0], [0.0, 2.0]]), 3, axis=1)
    found = linear_clipped(V, b, weights)
    share = np.array([[0.75, 0.25], [0.5, 0.5], [0.0, 1.0]])
    for i in range(3):
        for p, mixing in enumerate((first, second)):
            drives = np.zeros(3) if (i, p) == (2, 0) else np.linalg.inv(mixing[i]) @ (share[i, p] * b[i])
            assert found[i, 3 * p : 3 * p + 3] == pytest.approx(np.clip(drives, 0, 1))
    light = np.einsum("pnc,pn->pc", V, found)
    assert light == pytest.approx(b)  # none had to be clipped
    assert linear_clipped(V, 10 * b, weights).max() == 1 and linear_clipped(V, -b, weights).max() == 0


def test_the_least_drives_that_give_the_light():
    V, _, _ = columns()
    b = np.array([[0.4, 0.5, 0.45], [0.3, 0.3, 0.4], [0.5, 0.4, 0.45]])
    found = least_squares_clipped(V, b)
    for matrix, light, drives in zip(V.transpose(0, 2, 1), b, found, strict=True):
        assert drives == pytest.approx(np.clip(np.linalg.pinv(matrix) @ light, 0, 1), abs=1e-6)


def test_the_slope_of_the_code_between_two_colours():
    """12.92 where both are dark; the chord of the sRGB curve, IEC 61966-2-1, elsewhere; its tangent at one colour."""
    curve = lambda x: np.where(x <= 0.0031308, 12.92 * x, 1.055 * np.maximum(x, 0) ** (1 / 2.4) - 0.055)  # noqa: E731
    a, b = np.array([0.001, 0.5, 0.2, 0.3]), np.array([0.002, 0.1, 0.8, 0.3])
    expected = (curve(a) - curve(b)) / np.where(a == b, 1, a - b)
    expected[3] = 1.055 / 2.4 * 0.3 ** (1 / 2.4 - 1)
    assert secant_slope(a, b) == pytest.approx(expected, rel=1e-4)


def test_a_smooth_percentile_of_one_value_is_that_value_and_what_is_not_covered_does_not_count():
    covered = np.ones((60, 40), dtype=bool)
    covered[20:30, 10:25] = False
    for size in (1.0, 2.0, 0.3):
        image = np.where(covered, 0.7, 99.0)
        assert _smooth_percentile(image, covered, 5, size)[covered] == pytest.approx(np.full(covered.sum(), 0.7))


@pytest.mark.parametrize("size", [1.0, 2.0])
def test_a_smooth_percentile_follows_a_ramp(size, monkeypatch):
    """Far from the borders a symmetric Gaussian keeps a straight line; the percentile of 15 lines lies below it."""
    monkeypatch.setattr(scale, "WINDOW", 15)
    monkeypatch.setattr(scale, "SMOOTHING", 8.0)
    y, _ = np.mgrid[:200, :160].astype(float)
    found = _smooth_percentile(y, np.ones(y.shape, dtype=bool), 50, size)
    assert found[80:120, 40:120] == pytest.approx(y[80:120, 40:120], abs=1e-3)
    low = _smooth_percentile(y, np.ones(y.shape, dtype=bool), 0, size)
    window = 15 if size == 1 else 15 * 2  # in pixels of the picture
    assert found[100, 80] - low[100, 80] == pytest.approx(window // 2, abs=1.0)
    step = (y > 100).astype(float)
    smooth = _smooth_percentile(step, np.ones(y.shape, dtype=bool), 50, size)[:, 80]
    expected = ndimage.gaussian_filter1d(step[:, 80], 8.0 * size)
    assert np.abs(smooth - expected).max() < 0.05
