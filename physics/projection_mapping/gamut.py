r"""The gamut of a pixel, a zonotope: what n primaries can show there, Z = {V s : 0 <= s <= 1}, V of 3 rows.

With centre o = V 1 / 2, b lies in Z where for each pair i < j of columns, and the normal m = v_i x v_j,

    |m . (b - o)| <= (1/2) sum_k |m . v_k|,                                                      (1)

and alpha t + a stays in Z up to alpha = min over facets of (h_m sign(m . t) - m . (a - o)) / (m . t).      (2)
Flat gamuts have no facets: their `margin` is NaN.

The nearest point has a dual with three unknowns, the residual r = b - V s of

    min_s 1/2 |V s - b|^2 + (lam/2) sum_j (s_j - s0_j)^2 / w_j^2,  0 <= s <= 1:                        (3)
    F(r) = r - b + V s(r) = 0,   s(r) = clip(s0 + w^2 V^T r / lam, 0, 1),   F' = 1 + V D V^T / lam,       (4)

D = w^2 where 0 < s < 1, else 0. F is the gradient of a convex, piecewise quadratic function of r: semismooth Newton
(Qi & Sun 1993), each step as long as the slope along it is negative, ends after finitely many steps. lam falls in
stages, relative to the mean |v_j|^2. The distance d = |r| errs by less than 1e-6 of full scale with the stages `TIGHT`
and by less than 2e-4 with `WORKING`, beside bounded least squares. The gradient of d^2 / 2 in b is r, its curvature
1 - P, P the projector onto the free columns.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numba
import numpy as np
import torch

WORKING = (1e-2, 1e-6)
TIGHT = (1e-2, 1e-4, 1e-6, 1e-8, 1e-9)

MAX_NEWTON_STEPS = 200
MAX_LINE_TRIALS = 40
SLOPE_LEFT = 1e-3
"""Of the slope along a Newton step, how much of it its end may have; more, and steps stop short of the next bound."""
PIXELS_PER_TASK = 4096
IN_GAMUT = 0.002
"""Distance, in linear light, up to which a pixel counts as inside."""


class Nearest(NamedTuple):
    """The nearest point that can be shown.

    Arguments:
        drives: s, shape `(pixels, columns)`.
        residual: r = b - V s, shape `(pixels, 3)`; its norm is the distance.
    """

    drives: np.ndarray
    residual: np.ndarray

    @property
    def distance(self) -> np.ndarray:
        return np.sqrt((self.residual**2).sum(1))


def nearest(
    columns: np.ndarray,
    b: np.ndarray,
    weights: np.ndarray | None = None,
    start: np.ndarray | None = None,
    stages: tuple[float, ...] = WORKING,
) -> Nearest:
    """The point of each pixel's gamut that is nearest to a colour, equation (3).

    Arguments:
        columns: V of each pixel, one column after the other, shape `(pixels, columns, 3)`.
        b: Colours above the background, shape `(pixels, 3)`.
        weights: w, at least 0, shape `(pixels, columns)`; 1 by default. A column of weight 0 stays at `start`.
        start: s0, the same shape; 0 by default, i.e. the least drive.
        stages: Values of lam, relative to the mean squared column.

    Returns:
        Drives and residuals, float64.
    """
    pixels, n = columns.shape[:2]
    columns = np.ascontiguousarray(columns)
    b = np.ascontiguousarray(b, dtype=np.float64)
    w = np.ones((1, n)) if weights is None else np.ascontiguousarray(weights, dtype=np.float64)
    s0 = np.zeros((1, n)) if start is None else np.ascontiguousarray(start, dtype=np.float64)
    s, r = np.empty((pixels, n)), np.empty((pixels, 3))
    lam = np.asarray(stages, dtype=np.float64)
    in_parts(lambda i, j: _nearest(columns, b, w, s0, lam, i, j, s, r), pixels)
    return Nearest(s, r)


def margin(columns: np.ndarray, b: np.ndarray) -> np.ndarray:
    """How far colours lie outside the facets, equation (1): at most 0 inside. No distance beyond edges; NaN where the
    gamut is flat.

    Arguments:
        columns, b: As of `nearest`.

    Returns:
        Shape `(pixels,)`.
    """
    return _facet_test(columns, b, np.zeros_like(b))[0]


def largest_gain(columns: np.ndarray, direction: np.ndarray, origin: np.ndarray | None = None) -> np.ndarray:
    """The largest alpha with origin + alpha direction in the gamut, equation (2).

    Arguments:
        columns: As of `nearest`.
        direction: t, shape `(pixels, 3)`.
        origin: a, above the background, inside the gamut; 0 by default.

    Returns:
        Shape `(pixels,)`; infinite for no direction, NaN where no point of the ray is inside. Flat gamuts are searched
        by bisection on the distance.
    """
    origin = np.zeros_like(direction) if origin is None else origin
    outside, gain = _facet_test(columns, origin, direction)
    flat = np.isnan(outside)
    if flat.any():
        gain[flat] = _gain_by_bisection(columns[flat], direction[flat], origin[flat])
    return gain


def _gain_by_bisection(columns: np.ndarray, direction: np.ndarray, origin: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(direction, axis=1)
    reach = np.linalg.norm(columns.sum(1), axis=1)
    low, high = np.zeros(len(length)), np.divide(reach, length, out=np.full(len(length), np.inf), where=length > 0)
    finite = np.isfinite(high)
    high[~finite] = 0.0
    tolerance = 2e-6 * reach + 1e-12
    for _ in range(24):
        middle = 0.5 * (low + high)
        inside = nearest(columns, origin + middle[:, None] * direction, stages=TIGHT).distance <= tolerance
        low, high = np.where(inside, middle, low), np.where(inside, high, middle)
    return np.where(finite, low, np.inf)


def curvature(columns: np.ndarray, drives: np.ndarray, tolerance: float = 1e-6) -> np.ndarray:
    """Second derivative in b of half the squared distance, 1 - P, P the projector onto the free columns.

    Arguments:
        columns: As of `nearest`.
        drives: Of the nearest point, found with `TIGHT` stages.
        tolerance: Distance from 0 and 1 up to which a drive is at its bound.

    Returns:
        Shape `(pixels, 3, 3)`; 0 inside the gamut.
    """
    free = (drives > tolerance) & (drives < 1 - tolerance)
    active = np.where(free[..., None], columns, 0).astype(np.float64)
    values, vectors = np.linalg.eigh(np.einsum("pjc,pjd->pcd", active, active))
    largest = np.einsum("pjc,pjc->p", columns, columns)[:, None]
    fixed = (values <= 1e-9 * np.maximum(largest, 1e-300)).astype(np.float64)
    return np.asarray(np.einsum("pci,pi,pdi->pcd", vectors, fixed, vectors))


def volume(columns: np.ndarray) -> np.ndarray:
    """Volume of the gamut, the sum over triples of |det|, shape `(pixels,)`."""
    n, found = columns.shape[1], np.zeros(len(columns))
    for i in range(n):
        for j in range(i + 1, n):
            normal = np.cross(columns[:, i], columns[:, j])
            for k in range(j + 1, n):
                found += np.abs((normal * columns[:, k]).sum(1))
    return found


def in_parts(work: Callable[[int, int], Any], pixels: int) -> None:
    """Call compiled work on ranges of pixels, on as many threads as torch has."""
    bounds = [(i, min(i + PIXELS_PER_TASK, pixels)) for i in range(0, pixels, PIXELS_PER_TASK)]
    workers = min(torch.get_num_threads(), len(bounds))
    if workers <= 1:
        if pixels:
            work(0, pixels)
        return
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(lambda bound: work(*bound), bounds))


def _facet_test(columns: np.ndarray, origin: np.ndarray, direction: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    columns = np.ascontiguousarray(columns)
    origin, direction = (np.ascontiguousarray(a, dtype=np.float64) for a in (origin, direction))
    outside, gain = np.empty(len(columns)), np.empty(len(columns))
    in_parts(lambda i, j: _facets(columns, origin, direction, i, j, outside, gain), len(columns))
    return outside, gain


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _facets(
    V: np.ndarray, a: np.ndarray, t: np.ndarray, first: int, last: int, outside: np.ndarray, gain: np.ndarray
) -> None:
    """Equations (1) and (2)."""
    n = V.shape[1]
    for x in range(first, last):
        o0 = o1 = o2 = size = 0.0
        for j in range(n):
            o0 += 0.5 * V[x, j, 0]
            o1 += 0.5 * V[x, j, 1]
            o2 += 0.5 * V[x, j, 2]
            size = max(size, V[x, j, 0] ** 2 + V[x, j, 1] ** 2 + V[x, j, 2] ** 2)
        worst, alpha, thick = -np.inf, np.inf, 0.0
        d0, d1, d2 = a[x, 0] - o0, a[x, 1] - o1, a[x, 2] - o2
        low = -np.inf
        for i in range(n):
            p0, p1, p2 = np.float64(V[x, i, 0]), np.float64(V[x, i, 1]), np.float64(V[x, i, 2])
            for j in range(i + 1, n):
                q0, q1, q2 = np.float64(V[x, j, 0]), np.float64(V[x, j, 1]), np.float64(V[x, j, 2])
                m0, m1, m2 = p1 * q2 - p2 * q1, p2 * q0 - p0 * q2, p0 * q1 - p1 * q0
                norm = np.sqrt(m0 * m0 + m1 * m1 + m2 * m2)
                if norm <= 1e-6 * size:
                    continue
                h = 0.0
                for k in range(n):
                    h += abs(m0 * V[x, k, 0] + m1 * V[x, k, 1] + m2 * V[x, k, 2])
                h *= 0.5
                thick = max(thick, h / norm)
                at = m0 * d0 + m1 * d1 + m2 * d2
                worst = max(worst, (abs(at) - h) / norm)
                along = m0 * t[x, 0] + m1 * t[x, 1] + m2 * t[x, 2]
                if abs(along) > 1e-14 * norm:
                    alpha = min(alpha, ((h if along > 0 else -h) - at) / along)
                    low = max(low, ((-h if along > 0 else h) - at) / along)
                elif abs(at) > h * (1 + 1e-9):
                    alpha = np.nan
        # every facet of a flat gamut has the plane's normal, and thickness 0
        flat = thick == 0.0
        if not flat:
            least = np.inf
            for i in range(n):
                for j in range(i + 1, n):
                    m0 = V[x, i, 1] * V[x, j, 2] - V[x, i, 2] * V[x, j, 1]
                    m1 = V[x, i, 2] * V[x, j, 0] - V[x, i, 0] * V[x, j, 2]
                    m2 = V[x, i, 0] * V[x, j, 1] - V[x, i, 1] * V[x, j, 0]
                    norm = np.sqrt(m0 * m0 + m1 * m1 + m2 * m2)
                    if norm > 1e-6 * size:
                        h = 0.0
                        for k in range(n):
                            h += abs(m0 * V[x, k, 0] + m1 * V[x, k, 1] + m2 * V[x, k, 2])
                        least = min(least, h / norm)
            flat = least <= 1e-5 * np.sqrt(size)
        if flat:
            outside[x] = np.nan
            gain[x] = np.nan
        else:
            outside[x] = worst
            gain[x] = alpha if alpha >= low - 1e-12 else np.nan


_Three = tuple[float, float, float]


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})
def _solve3(a00: float, a01: float, a02: float, a11: float, a12: float, a22: float, g: _Three) -> _Three:
    """A^-1 g of a symmetric positive definite matrix, by Cholesky's factors."""
    l00 = np.sqrt(a00)
    l10, l20 = a01 / l00, a02 / l00
    l11 = np.sqrt(max(a11 - l10 * l10, 1e-300))
    l21 = (a12 - l20 * l10) / l11
    l22 = np.sqrt(max(a22 - l20 * l20 - l21 * l21, 1e-300))
    y0 = g[0] / l00
    y1 = (g[1] - l10 * y0) / l11
    x2 = (g[2] - l20 * y0 - l21 * y1) / (l22 * l22)
    x1 = (y1 - l21 * x2) / l11
    return (y0 - l10 * x1 - l20 * x2) / l00, x1, x2


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})
def _step(V: np.ndarray, s: np.ndarray, d: np.ndarray, only_free: bool, shift: float, g: _Three) -> _Three:
    """(shift + V D V^T)^-1 g; D restricted to free columns or not."""
    a00 = a01 = a02 = a11 = a12 = a22 = 0.0
    for j in range(V.shape[1]):
        if only_free and (s[j] <= 0.0 or s[j] >= 1.0):
            continue
        v0, v1, v2 = V[0, j], V[1, j], V[2, j]
        a00 += d[j] * v0 * v0
        a01 += d[j] * v0 * v1
        a02 += d[j] * v0 * v2
        a11 += d[j] * v1 * v1
        a12 += d[j] * v1 * v2
        a22 += d[j] * v2 * v2
    if not only_free:
        det = a00 * (a11 * a22 - a12 * a12) - a01 * (a01 * a22 - a12 * a02) + a02 * (a01 * a12 - a11 * a02)
        if not det > 1e-9 * ((a00 + a11 + a22) / 3) ** 3:
            return np.nan, np.nan, np.nan
    return _solve3(a00 + shift, a01, a02, a11 + shift, a12, a22 + shift, g)


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})
def _residue(V: np.ndarray, s: np.ndarray, b: np.ndarray) -> _Three:
    """b - V s."""
    f0, f1, f2 = b[0], b[1], b[2]
    for j in range(V.shape[1]):
        f0 -= V[0, j] * s[j]
        f1 -= V[1, j] * s[j]
        f2 -= V[2, j] * s[j]
    return f0, f1, f2


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})
def _length(t: np.ndarray, rise: np.ndarray, q: np.ndarray, s: np.ndarray, slope: float, square: float) -> float:
    """How far to go along a Newton step d: where the slope of the dual along it,

        slope + length d.d + sum_j q_j (clip(t_j + length rise_j) - s_j),   q = V^T d,

    piecewise linear and rising, is 0 or not far below (beyond a zero the dual may have risen), or the whole step where
    it is still negative there. Newton's method within a shrinking interval.
    """
    low, high, length = 0.0, 1.0, 1.0
    for trial in range(MAX_LINE_TRIALS):
        here, curve = slope + length * square, square
        for j in range(len(t)):
            value = t[j] + length * rise[j]
            if value <= 0.0:
                here -= q[j] * s[j]
            elif value >= 1.0:
                here += q[j] * (1.0 - s[j])
            else:
                here += q[j] * (value - s[j])
                curve += q[j] * rise[j]
        if here <= -1e-6 * slope and (trial == 0 or here >= SLOPE_LEFT * slope):
            return length
        before = high - low
        if here > 0:
            high = length
        else:
            low = length
        length -= here / curve
        if not low < length < high or (trial % 2 == 1 and high - low > 0.5 * before):
            length = 0.5 * (low + high)
    return low if low > 0.0 else length


@numba.njit(cache=True, nogil=True, error_model="numpy", fastmath={"contract", "reassoc", "nsz"})
def _nearest(
    columns: np.ndarray,
    b: np.ndarray,
    w: np.ndarray,
    start: np.ndarray,
    stages: np.ndarray,
    first: int,
    last: int,
    s_out: np.ndarray,
    r_out: np.ndarray,
) -> None:
    """Equation (4) for each pixel."""
    n = columns.shape[1]
    V, w2, s0, s, d = np.empty((3, n)), np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    t, rise, q = np.empty(n), np.empty(n), np.empty(n)
    for x in range(first, last):
        power = 0.0
        for j in range(n):
            w2[j] = w[x if len(w) > 1 else 0, j] ** 2
            s0[j] = min(max(start[x if len(start) > 1 else 0, j], 0.0), 1.0)
            s[j] = s0[j]
            for c in range(3):
                V[c, j] = columns[x, j, c]
                power += V[c, j] ** 2
        power /= n
        bx = b[x]
        f0, f1, f2 = _residue(V, s0, bx)
        done = power == 0.0
        if not done:  # the least change of s0 that shows b, where it is possible
            g0, g1, g2 = _step(V, s, w2, False, 0.0, (f0, f1, f2))
            done = g0 == g0
            if done:
                for j in range(n):
                    s[j] = s0[j] + w2[j] * (V[0, j] * g0 + V[1, j] * g1 + V[2, j] * g2)
                    if s[j] < 0.0 or s[j] > 1.0:
                        done = False
            if done:
                f0 = f1 = f2 = 0.0
        if not done:
            size = np.sqrt(power) * n + abs(bx[0]) + abs(bx[1]) + abs(bx[2])
            r0, r1, r2 = f0, f1, f2
            for stage in range(len(stages)):
                lam = stages[stage] * power
                # |error of r| <= |F|, and rounding alone leaves so much of F
                enough = size * (1e-3 if stage + 1 < len(stages) else 1e-10 + 5e-17 / stages[stage])
                for j in range(n):
                    d[j] = w2[j] / lam
                    t[j] = s0[j] + d[j] * (V[0, j] * r0 + V[1, j] * r1 + V[2, j] * r2)
                    s[j] = min(max(t[j], 0.0), 1.0)
                f0, f1, f2 = _residue(V, s, bx)
                for _ in range(MAX_NEWTON_STEPS):
                    F = (f0 - r0, f1 - r1, f2 - r2)  # minus F of equation (4)
                    if abs(F[0]) + abs(F[1]) + abs(F[2]) <= enough:
                        break
                    g0, g1, g2 = _step(V, s, d, True, 1.0, F)
                    for j in range(n):
                        q[j] = V[0, j] * g0 + V[1, j] * g1 + V[2, j] * g2
                        rise[j] = d[j] * q[j]
                    slope = -(F[0] * g0 + F[1] * g1 + F[2] * g2)
                    length = _length(t, rise, q, s, slope, g0 * g0 + g1 * g1 + g2 * g2)
                    r0, r1, r2 = r0 + length * g0, r1 + length * g1, r2 + length * g2
                    for j in range(n):
                        t[j] = s0[j] + d[j] * (V[0, j] * r0 + V[1, j] * r1 + V[2, j] * r2)
                        s[j] = min(max(t[j], 0.0), 1.0)
                    f0, f1, f2 = _residue(V, s, bx)
        s_out[x] = s
        r_out[x, 0], r_out[x, 1], r_out[x, 2] = f0, f1, f2
