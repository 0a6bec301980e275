"""Gray-code patterns and their decoder, as an array program: the order and the rules of OpenCV's `GrayCodePattern`.

Columns first, most significant bit first, each pattern followed by its inverse, then rows. A pixel is decoded where
white exceeds black by a threshold and every pattern differs from its inverse by another.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from infield.core.errors import InfieldError

BLACK_THRESHOLD = 40
"""Least difference of white and black, in codes of 8 bits; OpenCV's default."""
WHITE_THRESHOLD = 5
"""Least difference of a pattern and its inverse; OpenCV's default."""

WINDOW_SIGMA = 3.0
"""Standard deviation of the window of the plane fit, camera pixels: 11 of them carry most of its weight."""
MIN_SUPPORT = 0.35
"""Least share of the window that has to be decoded."""
MAX_RESIDUAL = 0.6
"""Root mean square distance of neighbours from their plane up to which a pixel amid them is on it; rounding: 0.29."""
OUTLIER_PIXELS = 1.5
"""Pixels of the projector by which a decoded position may be off the plane of its neighbours; beyond, it is an edge."""


class Decoded(NamedTuple):
    """Positions on a projector.

    Arguments:
        row, column: Pixel indices v and u, shape `(y, x)`; meaningless where not valid.
        valid: Shape `(y, x)`.
        lit: Where white exceeds black, shape `(y, x)`.
    """

    row: np.ndarray
    column: np.ndarray
    valid: np.ndarray
    lit: np.ndarray


class Refined(NamedTuple):
    """Positions between the pixels of a projector.

    Arguments:
        warp: (v, u), NaN where unknown, shape `(2, y, x)`.
        error: Standard error of each coordinate, projector pixels, shape `(y, x)`.
    """

    warp: np.ndarray
    error: np.ndarray


def bits_of(length: int) -> int:
    """Patterns, without inverses, that distinguish `length` positions."""
    return max(1, int(np.ceil(np.log2(length))))


def pattern_count(height: int, width: int) -> int:
    """Images of a Gray code, inverses included."""
    return 2 * (bits_of(width) + bits_of(height))


def patterns(height: int, width: int) -> np.ndarray:
    """All patterns of a raster in order, 0 and 1, shape `(images, height, width)`, uint8."""
    found = []
    for length, axis in ((width, 1), (height, 0)):
        at = np.arange(length)
        gray = at ^ (at >> 1)
        for bit in reversed(range(bits_of(length))):
            line = ((gray >> bit) & 1).astype(np.uint8)
            image = np.broadcast_to(line if axis else line[:, None], (height, width))
            found += [image, 1 - image]
    return np.stack(found)


def decode(
    images: np.ndarray,
    white: np.ndarray,
    black: np.ndarray,
    height: int,
    width: int,
    *,
    black_threshold: float = BLACK_THRESHOLD,
    white_threshold: float = WHITE_THRESHOLD,
) -> Decoded:
    """Pixel of the projector that each camera pixel observes.

    Arguments:
        images: Grey captures of `patterns`, shape `(images, y, x)`.
        white, black: Captures of a white and a black projector, shape `(y, x)`.
        height, width: Of the projector.
        black_threshold, white_threshold: As the constants.

    Raises:
        InfieldError: Their number is not that of a projector of this size.
    """
    if len(images) != pattern_count(height, width):
        expected = f"{pattern_count(height, width)} of a projector of {width} x {height}"
        raise InfieldError(where="Gray code", found=f"{len(images)} images", expected=expected)
    images = images.astype(np.int32)
    pairs = images[0::2], images[1::2]
    bright, strong = pairs[0] > pairs[1], np.abs(pairs[0] - pairs[1]) >= white_threshold
    lit = (white.astype(np.int32) - black.astype(np.int32)) > black_threshold
    columns = bits_of(width)
    column, row = binary(bright[:columns]), binary(bright[columns:])
    valid = lit & strong.all(0) & (column < width) & (row < height)
    return Decoded(row, column, valid, lit)


def binary(gray: np.ndarray) -> np.ndarray:
    """Numbers of Gray codes, most significant bit first: each bit is the parity of those up to it."""
    bits = np.logical_xor.accumulate(gray, axis=0)
    weights = 1 << np.arange(len(gray) - 1, -1, -1)
    return np.tensordot(weights, bits.astype(np.int64), 1)


def refine(decoded: Decoded, cell: int = 1) -> Refined:
    """Positions between pixels, from a plane through the decoded neighbours, weighted by a Gaussian window.

    Pixels off the plane of their neighbours (edges of depth, errors of decoding) are left out, and the fit repeated.
    Lit pixels between stripes, where patterns do not differ enough from their inverses, get the plane's value.

    Arguments:
        decoded: What `decode` found.
        cell: Pixels of the projector to which its positions are rounded.
    """
    values = np.stack([decoded.row, decoded.column]).astype(np.float64)
    valid = decoded.valid
    warp, residual, support = fit_planes(values, valid)
    near = valid & (np.abs(np.where(valid, values - warp, 0)).max(0) <= OUTLIER_PIXELS * cell)
    warp, residual, support = fit_planes(values, near)
    between = decoded.lit & ~valid & (residual < (MAX_RESIDUAL * cell) ** 2)
    good = (support > MIN_SUPPORT) & (near | between)
    effective = np.maximum(4 * np.pi * WINDOW_SIGMA**2 * support, 1.0)
    error = np.sqrt(residual / effective)
    return Refined(np.where(good, warp, np.nan), np.where(good, error, np.nan))


def fit_planes(
    values: np.ndarray, valid: np.ndarray, sigma: float = WINDOW_SIGMA
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Value of the fitted plane at each pixel, weighted mean square residual, and share of the window."""
    y, x = np.meshgrid(*(np.arange(n, dtype=float) for n in valid.shape), indexing="ij")
    blur = lambda a: ndimage.gaussian_filter(a, sigma, mode="constant", truncate=2.0)  # noqa: E731
    w = valid.astype(float)
    centre = [np.mean(c) for c in (y, x)]
    y, x = y - centre[0], x - centre[1]
    m0 = np.maximum(blur(w), 1e-12)
    my, mx = blur(w * y) / m0, blur(w * x) / m0
    vyy, vxx = blur(w * y * y) / m0 - my**2, blur(w * x * x) / m0 - mx**2
    vxy = blur(w * x * y) / m0 - mx * my
    det = np.maximum(vyy * vxx - vxy**2, 1e-9)
    fitted, residual = np.empty_like(values), np.zeros(valid.shape)
    for i, value in enumerate(np.where(valid, values, 0.0)):
        mean = blur(w * value) / m0
        cy, cx = blur(w * value * y) / m0 - mean * my, blur(w * value * x) / m0 - mean * mx
        by, bx = (cy * vxx - cx * vxy) / det, (cx * vyy - cy * vxy) / det
        fitted[i] = mean + by * (y - my) + bx * (x - mx)
        square = blur(w * value * value) / m0 - mean**2 - by * cy - bx * cx
        residual += np.maximum(square, 0) / 2
    whole = blur(np.ones(valid.shape))
    return fitted, residual, m0 / np.maximum(whole, 1e-12)
