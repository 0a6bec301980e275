"""The decoder beside OpenCV on real captures, and positions between pixels on synthetic planes."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from infield.core.errors import InfieldError
from infield.datasets.projection_mapping.gray_code import Decoded, decode, pattern_count, patterns, refine
from infield.datasets.projection_mapping.subpixel import refine_by_contrast

cv2 = pytest.importorskip("cv2")
DATA = Path(os.environ.get("INFIELD_DATA", "/nowhere")) / "projection" / "graycode_board"


@pytest.mark.parametrize(("height", "width"), [(12, 20), (768, 1024)])
def test_patterns_are_those_of_opencv(height, width):
    _, expected = cv2.structured_light.GrayCodePattern.create(width, height).generate()
    ours = patterns(height, width)
    assert len(ours) == len(expected) == pattern_count(height, width)
    assert all((np.asarray(a) == 255 * b).all() for a, b in zip(expected, ours, strict=True))


def test_every_position_of_a_raster_is_decoded():
    images = 200 * patterns(12, 20).astype(int) + 20
    found = decode(images, np.full((12, 20), 220), np.full((12, 20), 20), 12, 20)
    rows, columns = np.indices((12, 20))
    assert found.valid.all() and (found.row == rows).all() and (found.column == columns).all()
    swapped = images.reshape(-1, 2, 12, 20)[:, ::-1].reshape(images.shape)
    assert not (decode(swapped, np.full((12, 20), 220), np.full((12, 20), 20), 12, 20).column == columns).all()
    with pytest.raises(InfieldError, match="18 images, expected 30"):
        decode(images, images[0], images[1], 120, 200)


@pytest.mark.skipif(not DATA.is_dir(), reason="the real captures are not here")
def test_real_captures_are_decoded_as_opencv_does():
    images = np.stack([cv2.imread(str(DATA / f"graycode_{i:02d}.png"), 0) for i in range(42)])
    code = cv2.structured_light.GrayCodePattern.create(1024, 768)
    code.setWhiteThreshold(5)
    rng = np.random.default_rng(0)
    y, x = rng.integers(0, images.shape[1], 400), rng.integers(0, images.shape[2], 400)
    drawn = images[:, y, x][:, None]
    found = decode(drawn[:40], np.full((1, 400), 255), np.zeros((1, 400)), 768, 1024)
    for i in range(400):
        wrong, position = code.getProjPixel(list(images[:40]), int(x[i]), int(y[i]))
        assert bool(wrong) != bool(found.valid[0, i])
        assert wrong or position == (found.column[0, i], found.row[0, i])
    part = images[:, 100:260, 250:450]
    whole = decode(part[:40], part[40], part[41], 768, 1024)
    refined = refine(whole)
    rows, columns = np.nonzero(whole.valid)
    pairs = (
        np.stack([columns, rows], 1).astype(float),
        np.stack([whole.column, whole.row], -1)[whole.valid].astype(float),
    )
    H, inliers = cv2.findHomography(*pairs, cv2.RANSAC, 3.0)

    def residual(position, at):
        rows, columns = np.nonzero(at)
        z = H @ np.stack([columns, rows, np.ones_like(rows)])
        return np.sqrt(((z[:2] / z[2] - np.stack([position[1], position[0]])[:, at]) ** 2).mean(1))

    assert inliers.mean() > 0.99
    assert residual(np.stack([whole.row, whole.column]), whole.valid).max() < 0.35
    assert residual(refined.warp, np.isfinite(refined.warp).all(0)).max() < 0.25


def test_positions_between_pixels():
    """Rounded positions of two planes that meet in an edge: rounding is averaged out, the edge is not crossed."""
    y, x = np.indices((60, 80)).astype(float)
    true = np.stack([0.8 * y + 0.1 * x + 3, 1.1 * x - 0.07 * y + np.where(x > 40, 25, 0)])
    whole = np.round(true).astype(int)
    found = refine(Decoded(whole[0], whole[1], np.ones((60, 80), bool), np.ones((60, 80), bool)))
    inner = (slice(8, -8), slice(8, -8))
    error = np.abs(found.warp - true)[(slice(None), *inner)]
    assert np.nanmax(error) < 0.5 and np.sqrt(np.nanmean(error**2)) < 0.09
    assert np.sqrt(((whole - true) ** 2).mean()) > 0.25  # without the fit
    assert 0.01 < np.nanmedian(found.error[inner]) < 0.1


@pytest.mark.parametrize(("sigma", "stride"), [(0.8, 1.0), (1.6, 1.0), (1.0, 1.13)])
def test_positions_by_contrast(sigma, stride):
    """Camera pixels of the projector's size: all neighbours are rounded alike, and contrasts alone tell the phase."""
    height, width, ndimage = 60, 80, pytest.importorskip("scipy.ndimage")
    y, x = np.indices((40, 56)).astype(float)
    true = np.stack([stride * y + 0.01 * x + 4.37, stride * x + 0.02 * y + 4.41])
    seen = []
    for pattern in patterns(height, width).astype(float):
        image = ndimage.gaussian_filter(np.kron(pattern, np.ones((8, 8))), 8 * sigma, mode="nearest")
        seen.append(ndimage.map_coordinates(image, 8 * true + 3.5, order=1))
    rng = np.random.default_rng(0)
    texture = rng.uniform(0.3, 1, (40, 56))
    light = np.stack(seen) * texture + 0.01 * rng.normal(size=(len(seen), 40, 56))
    sums = light[0::2] + light[1::2]
    gray, lit = 20 + 180 * light, np.ones((40, 56), bool)
    found = refine_by_contrast(gray, lit, (light[0::2] - light[1::2]) / sums, height, width)
    inner = (slice(None), slice(3, -3), slice(3, -3))
    assert np.isfinite(found.warp).all(0).mean() > 0.97
    assert np.sqrt(np.nanmean((found.warp - true)[inner] ** 2)) < 0.06
    if sigma == 0.8:  # what planes through decoded positions leave
        decoded = decode(gray, np.full((40, 56), 250), np.zeros((40, 56)), height, width)
        assert np.sqrt(np.nanmean((refine(decoded).warp - true)[inner] ** 2)) > 0.15
