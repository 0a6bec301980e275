r"""Positions between the pixels of a projector from how strongly patterns and inverses differ.

A decoded position is a whole number, and where camera and projector have commensurate pixels its rounding is the same
over many neighbours: no average removes it. The contrast of each pair of the code,

    c_b(x) = (pattern - inverse) / (pattern + inverse - 2 black)     in linear light,

falls through 0 where x sees an edge of the pattern. Blurred by a Gaussian (defocus and the camera's pixels), pattern b
gives S_b(u; sigma) at position u; of the finest bits

    u = argmin sum_b (c_b - S_b(u; sigma))^2

near the plane of the decoded positions, sigma being the one that fits all pixels best. Reflectance and exposure cancel
in c_b. Bits that defocus leaves without contrast are not decoded.
"""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from infield.datasets.projection_mapping.gray_code import (
    MAX_RESIDUAL,
    MIN_SUPPORT,
    WHITE_THRESHOLD,
    Decoded,
    Refined,
    binary,
    bits_of,
    fit_planes,
    patterns,
    refine,
)

FINEST = 5
"""Bits that are compared: the finest."""
SIGMAS = (0.3, 0.45, 0.6, 0.8, 1.0, 1.25, 1.5, 1.8, 2.2, 2.7, 3.3)
"""Blurs that are tried, projector pixels."""
REACH, STEP = 1.5, 0.125
"""Offsets from the decoded plane that are tried, projector pixels; half a cell of what is decoded comes on top."""
WEAK = 4 * WHITE_THRESHOLD
"""Median difference of pattern and inverse, in codes of 8 bits, below which a bit is not decoded."""
UPSAMPLING = 8
WINDOW_SIGMA = 1.5
"""Standard deviation of the window of the plane through these positions, camera pixels."""
MAX_MISFIT = 0.35
"""Root mean square difference of the contrasts beyond which a pixel (at an edge of depth) is left out."""
OUTLIER_PIXELS = 1.0


def decode_strong(gray: np.ndarray, lit: np.ndarray, height: int, width: int) -> tuple[Decoded, int]:
    """Positions by those bits that have contrast, at the middle of what these tell apart, and its width in pixels.

    One bit of an axis may be undecided: codes of neighbouring positions differ in one bit, so that its pixel sees the
    edge between two of them, and either is right.

    Arguments:
        gray: Captures of the patterns, codes of 8 bits, shape `(images, y, x)`.
        lit: Where the projector shines, shape `(y, x)`.
        height, width: Of the projector.
    """
    pairs = gray[0::2], gray[1::2]
    bright, strength = pairs[0] > pairs[1], np.abs(pairs[0] - pairs[1])
    columns, cell, valid = bits_of(width), 1, lit.copy()
    found = []
    for part, length in ((slice(None, columns), width), (slice(columns, None), height)):
        bits = strength[part]
        kept = len(bits)
        while kept > 3 and lit.any() and np.median(bits[kept - 1][lit]) < WEAK:
            kept -= 1
        size = 2 ** (len(bits) - kept)
        position = size * (binary(bright[part][:kept]) + 0.5) - 0.5
        valid &= ((bits[:kept] < WHITE_THRESHOLD).sum(0) <= 1) & (position < length)
        found.append(position)
        cell = max(cell, size)
    return Decoded(found[1], found[0], valid, lit), cell


def refine_by_contrast(gray: np.ndarray, lit: np.ndarray, contrast: np.ndarray, height: int, width: int) -> Refined:
    """Positions between pixels, from contrasts, averaged over planes through a few neighbours.

    Arguments:
        gray, lit, height, width: As of `decode_strong`.
        contrast: c_b of each pair, columns first, shape `(pairs, y, x)`.
    """
    decoded, cell = decode_strong(gray, lit, height, width)
    coarse = refine(decoded, cell)
    columns = bits_of(width)
    code = patterns(height, width)[::2]
    lines = [code[columns:, :, 0], code[:columns, 0]]  # along v, along u
    seen = [contrast[columns:], contrast[:columns]]
    values, good = np.empty_like(coarse.warp), np.isfinite(coarse.warp).all(0)
    for axis in range(2):
        bits = min(FINEST, len(lines[axis]))
        reach = REACH + 0.5 * (cell - 1)
        at, misfit = _best_position(lines[axis][-bits:], seen[axis][-bits:], coarse.warp[axis], reach)
        values[axis] = at
        good &= misfit <= MAX_MISFIT
    warp, residual, support = fit_planes(values, good, WINDOW_SIGMA)
    near = good & (np.abs(np.where(good, values - warp, 0)).max(0) <= OUTLIER_PIXELS)
    warp, residual, support = fit_planes(values, near, WINDOW_SIGMA)
    kept = np.isfinite(coarse.warp).all(0) & (support > MIN_SUPPORT) & (residual < MAX_RESIDUAL**2)
    error = np.sqrt(residual / np.maximum(4 * np.pi * WINDOW_SIGMA**2 * support, 1.0))
    return Refined(np.where(kept, warp, np.nan), np.where(kept, error, np.nan))


def _best_position(
    lines: np.ndarray, contrast: np.ndarray, coarse: np.ndarray, reach: float
) -> tuple[np.ndarray, np.ndarray]:
    """Position along one axis that fits the contrasts, and the root mean square misfit, 0 and infinity where unknown.

    Arguments:
        lines: Patterns along the axis, 0 and 1, shape `(bits, length)`.
        contrast: Shape `(bits, y, x)`.
        coarse: Position to begin with, NaN where unknown, shape `(y, x)`.
        reach: Of the search.
    """
    known = np.isfinite(coarse)
    start, c = coarse[known], contrast[:, known]
    some = slice(None, None, max(1, start.size // 4000))
    scores = [np.median(_costs(lines, s, c[:, some], start[some], reach).min(0)) for s in SIGMAS]
    costs = _costs(lines, SIGMAS[int(np.argmin(scores))], c, start, reach)
    best = np.clip(costs.argmin(0), 1, len(costs) - 2)
    low, here, high = (np.take_along_axis(costs, (best + k)[None], 0)[0] for k in (-1, 0, 1))
    bend = low - 2 * here + high
    shift = np.clip(np.where(bend > 0, 0.5 * (low - high) / np.where(bend > 0, bend, 1), 0), -1, 1)
    at, misfit = np.zeros(coarse.shape), np.full(coarse.shape, np.inf)
    at[known] = start - reach + STEP * (best + shift)
    misfit[known] = np.sqrt(costs.min(0) / len(lines))
    return at, misfit


def _costs(lines: np.ndarray, sigma: float, contrast: np.ndarray, start: np.ndarray, reach: float) -> np.ndarray:
    """Sums of squares at each offset, shape `(offsets, pixels)`."""
    length = lines.shape[1]
    fine = lambda a: ndimage.gaussian_filter1d(  # noqa: E731
        np.repeat(a, UPSAMPLING, -1), UPSAMPLING * sigma, mode="constant"
    )
    table = fine(2.0 * lines - 1) / np.maximum(fine(np.ones((1, length))), 1e-6)
    offsets = np.arange(-reach, reach + STEP / 2, STEP)
    at = (np.arange(length * UPSAMPLING) + 0.5) / UPSAMPLING - 0.5
    costs = np.zeros((len(offsets), start.size), np.float32)
    for row, c in zip(table, contrast, strict=True):
        for i, offset in enumerate(offsets):
            costs[i] += (np.interp(start + offset, at, row) - c) ** 2
    return costs
