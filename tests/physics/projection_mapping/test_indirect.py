"""Form factors of two patches at a right angle, and all bounces between them, beside the formulas written out."""

from __future__ import annotations

import math

import numpy as np
import pytest

from infield.physics.projection_mapping.indirect import all_bounces, patch_form_factors, positions_from_depth
from infield.physics.projection_mapping.multi_projector import bilinear_matrix, gaussian_kernel, interpolation, pooling


def corner() -> tuple[np.ndarray, np.ndarray]:
    """A wall at z = 10 and one at x = 4 with half the area a pixel; the columns at the seam are not covered."""
    row, column = np.mgrid[:4, :8].astype(float)
    first = column < 4
    x = np.where(first, 0.5 * column, 4.0)
    z = np.where(first, 10.0, 9.5 - 0.25 * (column - 4))
    return np.stack([x, 0.5 * (row - 1.5), z]), (column != 3) & (column != 4)


def test_form_factors_of_a_corner():
    """K = cos cos A / (pi d^2), of a mean over all pixels of the sender, of which three quarters are covered."""
    K = patch_form_factors(*corner(), (1, 2))
    d2 = 3.5**2 + 1.0**2  # from (0.5, 0, 10) to (4, 0, 9)
    cosines = (1.0 / math.sqrt(d2)) * (3.5 / math.sqrt(d2))
    areas = 12 * 0.5 * 0.5, 12 * 0.5 * 0.25
    expected = [[0, cosines * areas[1] / (math.pi * d2) / 0.75], [cosines * areas[0] / (math.pi * d2) / 0.75, 0]]
    assert K == pytest.approx(np.array(expected), rel=1e-12)


def test_walls_that_turn_away_from_each_other_exchange_nothing_and_those_not_covered_neither():
    positions, covered = corner()
    positions[0] = np.where(positions[2] == 10, positions[0], -4.0)  # now at the other side, seen from its back or not
    positions[2] = np.where(positions[2] == 10, 10.0, positions[2] + 3)  # behind the first wall
    assert not patch_form_factors(positions, covered, (1, 2)).any()
    positions, covered = corner()
    covered[:, 4:] = False
    assert not patch_form_factors(positions, covered, (1, 2)).any()


def test_close_patches_send_at_most_what_they_have():
    positions, covered = corner()
    positions *= np.array([1, 1e3, 1])[:, None, None]  # areas are a thousand times as large, distances the same
    K = patch_form_factors(positions, covered, (1, 2))
    assert K.tolist() == [[0, 1], [1, 0]]


def test_all_bounces_are_the_sum_of_each():
    K = np.array([[0.0, 0.3], [0.2, 0.0]])
    covered = np.array([[True, True, True, False]])
    reflectance = np.stack([np.full((1, 4), r) for r in (0.0, 0.5, 0.8)])
    found = all_bounces(K, reflectance, covered, (1, 2))
    for r, total in zip((0.0, 0.5, 0.8), found, strict=True):
        light = reflected = K  # the second patch is half covered
        for _ in range(60):
            reflected = K @ (np.array([r, r / 2])[:, None] * reflected)
            light = light + reflected
        assert total == pytest.approx(light, abs=1e-12)
    assert found.shape == (3, 2, 2)


def test_patches_that_do_not_divide_the_pixels():
    assert pooling(3, 2) == pytest.approx(np.array([[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]]))
    assert interpolation(4, 2) == pytest.approx(np.array([[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]]))
    assert interpolation(3, 1) == pytest.approx(np.ones((3, 1)))


def test_values_between_pixels_and_beyond_them():
    """Bilinear interpolation is exact for 1, v, u and v u, up to the outermost centres and no farther."""
    v = np.array([[0.0, 2.0, 1.25, 0.5, 2.0, 2.01, -0.01, 1.0, 1.0, np.nan]])
    u = np.array([[0.0, 3.0, 2.5, 3.0, 0.75, 1.0, 1.0, 3.01, -0.01, np.nan]])
    matrix = bilinear_matrix(np.stack([v, u]), (3, 4)).toarray()
    at = np.mgrid[:3, :4].reshape(2, -1)
    for raster, value in (
        (np.ones(12), np.ones(5)),
        (at[0], v[0, :5]),
        (at[1], u[0, :5]),
        (at[0] * at[1], (v * u)[0, :5]),
    ):
        assert matrix @ raster == pytest.approx(np.concatenate([value, np.zeros(5)]))
    of_a_line = bilinear_matrix(np.array([[[0.0, 0.0]], [[1.5, 3.0]]]), (1, 4)).toarray()
    assert of_a_line.tolist() == [[0, 0.5, 0.5, 0], [0, 0, 0, 1]]


@pytest.mark.parametrize("sigma", [0.0, 0.3, 1.0, 2.5])
def test_the_defocus_is_a_gaussian_of_sum_one(sigma):
    kernel = gaussian_kernel(sigma).numpy()
    middle = len(kernel) // 2
    assert kernel.sum() == pytest.approx(1) and kernel == pytest.approx(kernel[::-1])
    if sigma:
        ratios = kernel / kernel[middle]
        assert ratios == pytest.approx(np.exp(-((np.arange(len(kernel)) - middle) ** 2) / (2 * sigma**2)))
        assert math.exp(-(((middle + 1) / sigma) ** 2) / 2) < 4e-4  # what is cut off
    else:
        assert kernel.tolist() == [1]


def test_positions_of_a_pinhole_camera():
    depth = np.array([[2.0, 4.0], [3.0, 5.0], [6.0, 8.0]])
    x, y, z = positions_from_depth(depth, 10.0, (1.0, 0.5))
    assert z.tolist() == depth.tolist()
    assert x == pytest.approx(np.array([[-0.5, 0.5]]) / 10 * depth)
    assert y == pytest.approx(np.array([[-1.0], [0.0], [1.0]]) / 10 * depth)
