r"""Compensation pixel by pixel: the drives whose appearance comes nearest to a target, within bounds.

The error is measured in linear light, in the sRGB code or in Lab. Linear light is the bounded least squares of
`gamut.nearest`. Code: the same with rows scaled by the secant slope of the code between appearance and target, a few
rounds. Lab: Gauss-Newton with steps 1, 1/2 and 1/4, kept only where the error falls. Peers beside it: the inverse of
each projector on its share of the target, clipped (Nayar et al. 2003; Grossberg et al. 2004), and least squares,
clipped; the solution starts from the former wherever that is better in the error that is minimised.
"""

from __future__ import annotations

from collections.abc import Callable

import numba
import numpy as np
import torch

from infield.physics.projection_mapping.choices import Error
from infield.physics.projection_mapping.colour import encode, lab, lab_jacobian
from infield.physics.projection_mapping.gamut import WORKING, in_parts, nearest

CODED_ROUNDS = 3
LAB_ROUNDS = 4
PIXELS_PER_BLOCK = 2**16
ENOUGH = {"coded": 1e-9, "lab": 1e-5}
"""Squared error, of the code or in Lab, at which a pixel shows its target."""
SINGULAR = 1e-12
"""Determinant of a mixing, in cubed camera light, up to which a projector counts as unable to show a colour."""
MARGIN = 1e-4
"""By how much, of the squared error, another start has to be better."""


def solve_pixels(
    columns: np.ndarray,
    background: np.ndarray,
    target: np.ndarray,
    weights: np.ndarray,
    error: Error = "coded",
    to_srgb: np.ndarray | None = None,
) -> np.ndarray:
    """Drives, as emitted light, of each pixel.

    Arguments:
        columns: As of `gamut.nearest`.
        background: Camera light with all drives at 0, shape `(pixels, 3)`.
        target: Camera light that is wanted, the same shape.
        weights: w of each column, see `gamut.nearest`.
        error: What is minimised.
        to_srgb: Camera channels to linear sRGB; the identity by default.

    Returns:
        Shape `(pixels, columns)`.
    """
    s = np.empty(columns.shape[:2], np.float32)
    for first in range(0, len(s), PIXELS_PER_BLOCK):  # memory
        block = slice(first, first + PIXELS_PER_BLOCK)
        s[block] = _solve_block(columns[block], background[block], target[block], weights[block], error, to_srgb)
    return s


def _solve_block(
    columns: np.ndarray,
    background: np.ndarray,
    target: np.ndarray,
    weights: np.ndarray,
    error: Error,
    to_srgb: np.ndarray | None,
) -> np.ndarray:
    """`solve_pixels` for a block of pixels."""
    rgb, ground, wanted = columns, background, target
    if to_srgb is not None and not np.array_equal(to_srgb, np.eye(3)):
        rgb, ground, wanted = columns @ to_srgb.T, background @ to_srgb.T, target @ to_srgb.T
    s = nearest(rgb, wanted - ground, weights, stages=WORKING).drives
    if error == "linear":
        return s
    cost = cost_of(rgb, ground, wanted, error)
    _keep(s, linear_clipped(columns, target - background, weights), cost)
    left = cost(s) > ENOUGH[error]  # the others show their target, and no error has another solution
    if not left.all():
        s[left] = _refined(s[left], rgb[left], ground[left], wanted[left], weights[left], error)
        return s
    return _refined(s, rgb, ground, wanted, weights, error)


def _refined(
    s: np.ndarray, rgb: np.ndarray, ground: np.ndarray, wanted: np.ndarray, weights: np.ndarray, error: Error
) -> np.ndarray:
    """Rounds in the code, and in Lab, from drives s."""
    cost = cost_of(rgb, ground, wanted, error)
    moved = np.arange(len(s))  # a pixel that one round leaves as it is, all later ones do
    for _ in range(CODED_ROUNDS):
        if len(moved):
            V, a, b, w = rgb[moved], ground[moved], wanted[moved], weights[moved]
            slope = secant_slope(_appearance(V, a, s[moved]), b)
            trial = nearest(V * slope[:, None], slope * (b - a), w, stages=WORKING).drives
            now, measure = s[moved], cost_of(V, a, b, error)
            better = _keep(now, trial, measure)
            s[moved], moved = now, moved[better]
    for _ in range(LAB_ROUNDS if error == "lab" and len(s) else 0):
        a = _appearance(rgb, ground, s)
        jacobian = lab_jacobian(torch.from_numpy(a)).numpy()
        wish = _lab(wanted) - _lab(a) + np.einsum("pij,pj->pi", jacobian, a - ground)
        trial = nearest(np.einsum("pij,pnj->pni", jacobian, rgb), wish, weights, stages=WORKING).drives
        better = np.zeros(len(s), bool)
        before, old = cost(s), s.copy()
        for length in (1.0, 0.5, 0.25):
            step = old + length * (trial - old)
            now = ~better & (cost(step) < before * (1 - MARGIN))
            s[now], better = step[now], better | now
    return s


def linear_clipped(columns: np.ndarray, b: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Each projector inverts its mixing on its share of the target, clipped (Nayar et al. 2003), shape of drives."""
    s = np.empty(columns.shape[:2])
    arrays = np.ascontiguousarray(columns), np.ascontiguousarray(b, np.float64), np.ascontiguousarray(weights)
    in_parts(lambda i, j: _linear_clipped(*arrays, i, j, s), len(s))
    return s


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _linear_clipped(V: np.ndarray, b: np.ndarray, w: np.ndarray, first: int, last: int, s: np.ndarray) -> None:
    """Cramer's rule on each 3 x 3 mixing; 0 where it is singular."""
    n = V.shape[1]
    for x in range(first, last):
        whole = 0.0
        for j in range(0, n, 3):
            whole += w[x, j]
        for j in range(0, n, 3):
            p0, p1, p2 = np.float64(V[x, j, 0]), np.float64(V[x, j, 1]), np.float64(V[x, j, 2])
            q0, q1, q2 = np.float64(V[x, j + 1, 0]), np.float64(V[x, j + 1, 1]), np.float64(V[x, j + 1, 2])
            r0, r1, r2 = np.float64(V[x, j + 2, 0]), np.float64(V[x, j + 2, 1]), np.float64(V[x, j + 2, 2])
            m0, m1, m2 = q1 * r2 - q2 * r1, q2 * r0 - q0 * r2, q0 * r1 - q1 * r0
            det = p0 * m0 + p1 * m1 + p2 * m2
            if not abs(det) > SINGULAR:
                s[x, j] = s[x, j + 1] = s[x, j + 2] = 0.0
                continue
            factor = w[x, j] / (max(whole, 1e-12) * det)
            b0, b1, b2 = factor * b[x, 0], factor * b[x, 1], factor * b[x, 2]
            s0 = b0 * m0 + b1 * m1 + b2 * m2
            s1 = b0 * (r1 * p2 - r2 * p1) + b1 * (r2 * p0 - r0 * p2) + b2 * (r0 * p1 - r1 * p0)
            s2 = b0 * (p1 * q2 - p2 * q1) + b1 * (p2 * q0 - p0 * q2) + b2 * (p0 * q1 - p1 * q0)
            s[x, j], s[x, j + 1], s[x, j + 2] = min(max(s0, 0.0), 1.0), min(max(s1, 0.0), 1.0), min(max(s2, 0.0), 1.0)


def least_squares_clipped(columns: np.ndarray, b: np.ndarray) -> np.ndarray:
    """V^T (V V^T)^-1 b, clipped."""
    V = columns.transpose(0, 2, 1).astype(np.float64)
    gram = V @ V.transpose(0, 2, 1)
    gram += 1e-9 * np.trace(gram, axis1=1, axis2=2)[:, None, None] * np.eye(3) + 1e-15 * np.eye(3)
    return np.clip(np.einsum("pcj,pc->pj", V, np.linalg.solve(gram, b[..., None])[..., 0]), 0, 1)


def secant_slope(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Slope of the code between two colours, shape of both."""
    apart = np.where(np.abs(a - b) < 1e-5, 1e-5, a - b)
    code = [encode(torch.from_numpy(x)).numpy() for x in (b + apart, b)]
    return np.asarray((code[0] - code[1]) / apart)


def cost_of(
    rgb: np.ndarray, ground: np.ndarray, wanted: np.ndarray, error: Error
) -> Callable[[np.ndarray], np.ndarray]:
    """The squared error of drives, shape `(pixels,)`."""
    measure = {"linear": lambda x: x, "coded": lambda x: encode(torch.from_numpy(x)).numpy(), "lab": _lab}[error]
    goal = measure(wanted)
    return lambda s: ((measure(_appearance(rgb, ground, s)) - goal) ** 2).sum(1)


def _keep(s: np.ndarray, other: np.ndarray, cost: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Replace drives where another choice has the smaller error; where, shape `(pixels,)`."""
    before, after = cost(s), cost(other)
    better = (after < before * (1 - MARGIN)) & (before > 1e-7 * max(float(before.max()), 1e-30))
    s[better] = other[better]
    return np.asarray(better)


def _appearance(rgb: np.ndarray, ground: np.ndarray, s: np.ndarray) -> np.ndarray:
    light = np.array(ground, np.float64)
    arrays = np.ascontiguousarray(rgb), np.ascontiguousarray(s)
    in_parts(lambda i, j: _add_light(*arrays, i, j, light), len(light))
    return light


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _add_light(V: np.ndarray, s: np.ndarray, first: int, last: int, light: np.ndarray) -> None:
    for x in range(first, last):
        for j in range(V.shape[1]):
            for c in range(3):
                light[x, c] += V[x, j, c] * s[x, j]


def _lab(light: np.ndarray) -> np.ndarray:
    return np.asarray(lab(torch.from_numpy(np.ascontiguousarray(light, np.float64))).numpy())
