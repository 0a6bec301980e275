r"""Mixing of one projector from all its captures, by weighted least squares for each pixel and camera channel.

With V_k the light of primary k at full drive and o that of the black frame, captures measure, in linear light,

    ramp of k at level l: o + g_k(l) V_k,    white: o + sum_k V_k,    black: o,
    pattern of the Gray code + its inverse: 2 o + sum_k V_k,

the last one exactly, whatever the defocus and the indirect light, since both are linear and patterns and inverses add
up to white. Weights are the inverse of the noise's variance, a + b light, a and b from how much these sums vary.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from infield.datasets.projection_mapping.captures import Captures, ProjectorCaptures

PIXELS_PER_BLOCK = 2**16


@dataclass(frozen=True)
class CodeSums:
    """A Gray code in two digests, as its captures are many.

    Arguments:
        gray: Mean of the channels, codes of 8 bits, shape `(images, y, x)`.
        contrast: Light of each pattern less that of its inverse, over their sum without that of the black frame, mean
            of the channels, shape `(pairs, y, x)`.
        mean: Mean over the pairs of the light of a pattern plus that of its inverse, shape `(3, y, x)`.
        variance: Variance of these sums between the pairs, the same shape.
        pairs: Number of pairs.
    """

    gray: np.ndarray
    contrast: np.ndarray
    mean: np.ndarray
    variance: np.ndarray
    pairs: int


@dataclass(frozen=True)
class Mixing:
    """The result of the fit.

    Arguments:
        mixing: V, camera channel by primary, shape `(3, 3, y, x)`.
        error: Standard error of its entries, the same shape.
        noise: a and b of the variance.
    """

    mixing: np.ndarray
    error: np.ndarray
    noise: tuple[float, float]


def read_code(captures: Captures, one: ProjectorCaptures, black: np.ndarray) -> CodeSums:
    """Read the Gray code of a projector; `black` is the light of the black frame, shape `(3, y, x)`.

    Raises:
        InfieldError: As of `ProjectorCaptures.check_gray_codes`.
    """
    gray, contrast, first, total, squares = [], [], None, 0.0, 0.0
    count = one.check_gray_codes()
    for i in range(0, count, 2):
        codes = [one.codes(f"graycode_{j:02d}") for j in (i, i + 1)]
        gray += [255 * c.mean(0) for c in codes]
        light = [captures.light(c) for c in codes]
        added = light[0] + light[1]
        lit = np.maximum((added - 2 * black).mean(0), 1e-4)
        contrast.append(np.clip((light[0] - light[1]).mean(0) / lit, -1.5, 1.5).astype(np.float32))
        first = added if first is None else first
        total, squares = total + (added - first), squares + (added - first) ** 2
    pairs = count // 2
    assert first is not None
    mean = total / pairs
    variance = np.maximum(squares / pairs - mean**2, 0) * pairs / max(pairs - 1, 1)
    return CodeSums(np.stack(gray), np.stack(contrast), first + mean, variance, pairs)


def fit_noise(code: CodeSums, usable: np.ndarray) -> tuple[float, float]:
    """a and b of the variance a + b light of one capture, from the sums of pairs."""
    light, variance = code.mean[:, usable].ravel(), code.variance[:, usable].ravel()
    bins = np.array_split(np.argsort(light), 16)
    at, found = (np.array([a[i].mean() for i in bins if len(i)]) for a in (light, variance))
    weight = 1 / np.maximum(found, 1e-12)
    design = np.stack([2 * np.ones_like(at), at], 1) * weight[:, None]
    a, b = np.linalg.lstsq(design, found * weight, rcond=None)[0]
    floor = 1e-3 * max(float(found.max()), 1e-12)
    return max(float(a), floor), max(float(b), floor)


def fit_mixing(
    ramps: list[list[np.ndarray]], g: np.ndarray, white: np.ndarray, black: np.ndarray, blacks: int, code: CodeSums,
    usable: np.ndarray,
) -> Mixing:  # fmt: skip
    """Fit the mixing of a projector.

    Arguments:
        ramps: Light of each primary at each level, `[primary][level]`, shapes `(3, y, x)`.
        g: Response at the levels, shape `(3, levels)`.
        white: Light, shape `(3, y, x)`.
        black: Mean light of all black frames.
        blacks: Their number.
        code: Of the same projector.
        usable: Pixels from which the noise is estimated.
    """
    a, b = fit_noise(code, usable)
    shape = white.shape[-2:]
    rows, counts = [], []
    for k in range(3):
        for level in range(g.shape[1]):
            rows.append([*(g[k, level] * (np.arange(3) == k)), 1.0])
            counts.append(1.0)
    rows += [[1.0, 1.0, 1.0, 1.0], [0.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 2.0]]
    counts += [1.0, float(blacks), float(code.pairs)]
    X, counts_ = np.array(rows), np.array(counts)
    added = np.array([1.0] * (len(rows) - 1) + [2.0])  # captures that a datum is the sum of
    mixing, error = np.empty((3, 3, *shape)), np.empty((3, 3, *shape))
    flat = [image.reshape(3, -1) for one in ramps for image in one] + [
        image.reshape(3, -1) for image in (white, black, code.mean)
    ]
    for channel in range(3):
        for first in range(0, shape[0] * shape[1], PIXELS_PER_BLOCK):
            block = slice(first, first + PIXELS_PER_BLOCK)
            y = np.stack([image[channel, block] for image in flat])  # (data, pixels)
            weights = np.broadcast_to((counts_ / (a * added + b * y.mean()))[:, None], y.shape)
            for _ in range(2):  # weights of the fit, not of noisy data
                normal = np.einsum("di,dp,dj->pij", X, weights, X)
                found = np.linalg.solve(normal, np.einsum("di,dp,dp->pi", X, weights, y)[..., None])[..., 0]
                expected = np.maximum(X @ found.T, 0)
                weights = counts_[:, None] / (a * added[:, None] + b * expected)
            inverse = np.linalg.inv(np.einsum("di,dp,dj->pij", X, weights, X))
            mixing[channel].reshape(3, -1)[:, block] = found[:, :3].T
            spread = np.sqrt(np.einsum("pii->pi", inverse)[:, :3].T)
            error[channel].reshape(3, -1)[:, block] = spread
    return Mixing(mixing, error, (a, b))
