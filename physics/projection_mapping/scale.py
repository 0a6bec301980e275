"""Pictures that suit a surface: one gain for all pixels, or a gain and a lift that vary smoothly."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from infield.physics.projection_mapping.choices import Scale
from infield.physics.projection_mapping.gamut import largest_gain
from infield.physics.projection_mapping.setup import Setup

SHARE_INSIDE = 0.98
PERCENTILE, WINDOW, SMOOTHING = 30, 61, 30.0
"""Of the smooth gain: percentile of the largest gains, its window, then a Gaussian, in pixels at a height of 60. A
lower percentile and narrower windows bring more pixels inside, and cost more of the picture's own structure."""
REFERENCE_HEIGHT = 60
MOST_PIXELS = 20_000
"""Pixels from which the gain that fits is estimated where it is not applied."""


class Scaled(NamedTuple):
    """A target as it is scaled: lift + gain target.

    Arguments:
        target: Camera light, shape `(3, y, x)`.
        gain, lift: Shape `(y, x)`.
        fits: The gain up to which 98 % of the pixels are bright enough to show the whole picture above the background.
    """

    target: np.ndarray
    gain: np.ndarray
    lift: np.ndarray
    fits: float


def scale_target(setup: Setup, columns: np.ndarray, target: np.ndarray, scale: Scale = "none") -> Scaled:
    """Scale a target for a set-up.

    Arguments:
        setup: The set-up.
        columns: `setup.columns()`.
        target: Camera light, shape `(3, y, x)`.
        scale: How; `none` leaves it.
    """
    covered = setup.covered
    ground, wanted = setup.background[:, covered].T, target[:, covered].T
    ones, zeros = np.ones(setup.shape), np.zeros(setup.shape)
    some = slice(None, None, -(-len(wanted) // MOST_PIXELS) if scale == "none" and len(wanted) else 1)
    room = np.clip(
        np.nan_to_num(largest_gain(columns[some], wanted[some]), nan=0.0, posinf=np.inf), 0, None
    )  # above the background
    fits = float(np.quantile(room, 1 - SHARE_INSIDE, method="lower")) if room.size else 0.0
    if scale == "none":
        return Scaled(target, ones, zeros, fits)
    if scale == "global":
        gain = min(1.0, fits)
        return Scaled(gain * target, gain * ones, zeros, fits)
    size = setup.shape[0] / REFERENCE_HEIGHT
    lift = _smooth_percentile(setup.image(ground.max(1)), covered, 100 - PERCENTILE, size)
    above = np.nan_to_num(largest_gain(columns, wanted, lift[covered][:, None] - ground), nan=0.0, posinf=1.0)
    gain = np.clip(_smooth_percentile(setup.image(np.clip(above, 0, 1)), covered, PERCENTILE, size), 0, 1)
    return Scaled(np.where(covered, lift + gain * target, target), gain, lift, fits)


def _smooth_percentile(image: np.ndarray, covered: np.ndarray, percentile: float, size: float) -> np.ndarray:
    """A percentile in a window, then a Gaussian, over covered pixels only; on a coarser grid where pixels are many."""
    stride = max(1, round(size))
    _, nearest = ndimage.distance_transform_edt(~covered, return_indices=True)
    filled = image[tuple(nearest)]
    window = max(3, round(WINDOW * size / stride))
    coarse = ndimage.percentile_filter(filled[::stride, ::stride], percentile, size=window, mode="nearest")
    at = [np.arange(n) / stride for n in image.shape]
    full = ndimage.map_coordinates(coarse, np.meshgrid(*at, indexing="ij"), order=1, mode="nearest")
    sigma = max(1.0, SMOOTHING * size)
    weight = ndimage.gaussian_filter(covered.astype(float), sigma)
    return np.asarray(ndimage.gaussian_filter(full * covered, sigma) / np.maximum(weight, 1e-9))
