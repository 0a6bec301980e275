r"""Draws of a stationary law on a grid, without data, by Fourier modes of a larger torus.

Along an axis on which the law is stationary the covariance C(b, b'; h) of points at lag h depends on h alone. Summed
over periodic images, it is the covariance of a field on a torus of P cells, whatever the law:

    C_P(b, b'; h) = sum_k C(b, b'; h + k P),    S(b, b'; omega) = sum_h C_P(b, b'; h) e^{-i omega h} = L L^T,

and a field on the torus is the inverse transform of L w, w being transformed white noise (Wood & Chan 1994, J. Comput.
Graph. Stat. 3, 409; Dietrich & Newsam 1997, SIAM J. Sci. Comput. 18, 1088). It is seen through a window of n < P cells.
There images add nearly a constant in h, which is taken off the mode omega = 0; P is so large that what they add
otherwise is at most `ERROR` of the variance. On a periodic axis P = n. Longitude closes after 360 degrees, so that a
torus has 360 / K degrees. Axes on which the law is not stationary (latitude, an uneven axis, scattered points) are the
index b, on which S is a dense matrix: of few points all of them.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch
from scipy.fft import next_fast_len
from torch import Tensor

from infield.core.grid import Axis, Grid, PointSet
from infield.posterior.kriging.law import EARTH_RADIUS, JITTER, StationaryLaw

ERROR = 0.004
"""Of correlations at most: between opposite edges of the window, less between others."""

IMAGES = (0.5, 0.2, 0.08, 0.03, 0.01, 0.003)
"""Correlations of the nearest image at the longest lag within the window: tori from small to large."""

NEGLIGIBLE = {0.5: 1e-3, 1.5: 1e-6, 2.5: 1e-9}
"""Correlation of images that are left out, by the order of the law: modes of rough laws stay positive without them."""

MOST_CELLS, MOST_ENTRIES, MOST_BLOCK = 20_000_000, 30_000_000, 1500
"""Of the torus, of the matrices S, and of the points of b: above, there is no embedding."""

JITTERS = (1.0, 1e2, 1e4)
"""In units of `JITTER`, added to the diagonal of S where rounding leaves it indefinite."""

EVEN = 1e-6
"""Relative error to which spacings divide 360 degrees."""


@dataclass(frozen=True)
class _Torus:
    """One axis on which the law is stationary: n cells of the window, P of the torus, and numbers of its images."""

    axis: int
    n: int
    P: int
    step: float
    images: tuple[int, ...]


@dataclass(frozen=True)
class Embedding:
    """A law on a grid, ready to be drawn from.

    Arguments:
        tori: Axes on which the law is stationary, at least one.
        block: Of the others, in their order, the number of points.
        root: L, shape `(*modes, B, B)`, of a real transform over the tori; float32, since those of many laws are kept.
        order: Place in the grid's order of each point of (b, cells of the window).
    """

    tori: tuple[_Torus, ...]
    block: int
    root: Tensor
    order: Tensor

    @classmethod
    def of(cls, law: StationaryLaw, grid: Grid | PointSet) -> Embedding | None:
        """None where the torus or the matrices would be too large, or where axes are turned that are not even."""
        for image in IMAGES:
            tori = tuple(_tori(law, grid, image))
            stationary = [torus.axis for torus in tori]
            shape = grid.shape if isinstance(grid, Grid) else (grid.size,)
            others = [i for i in range(len(shape)) if i not in stationary]
            block, cells = math.prod(shape[i] for i in others), math.prod(torus.P for torus in tori)
            tori = tori or (_Torus(-1, 1, 1, 0.0, (0,)),)
            if block > 1 and (law.azimuth is not None or block > MOST_BLOCK or block**2 * cells > MOST_ENTRIES):
                return None
            if block * cells > MOST_CELLS:
                return None
            numbers = torch.arange(grid.size).reshape(shape).permute(*others, *stationary).reshape(-1)
            at = grid.points()[numbers.reshape(block, -1)[:, 0]].double()
            excess, error = _excess(law, tori, at)
            if error <= ERROR:
                root = _root(law, _spectrum(law, tori, at), cells * excess)
                if root is not None:
                    return cls(tori, block, root.float(), numbers)
        return None

    @property
    def numbers(self) -> int:
        """White numbers of a draw."""
        return self.block * math.prod(torus.P for torus in self.tori)

    def draw(self, white: Tensor) -> Tensor:
        """Fields in the order of the grid, shape `(n, m)`, from standard normal numbers `(n, numbers)`."""
        P = [torus.P for torus in self.tori]
        dims, root = list(range(2, 2 + len(P))), self.root.double()
        modes = torch.fft.rfftn(white.reshape(-1, self.block, *P), dim=dims).movedim((1, 0), (-2, -1))
        if self.block == 1:
            modes = modes * root
        else:
            parts = torch.view_as_real(modes.contiguous())  # the root is real
            modes = torch.view_as_complex((root @ parts.flatten(-2)).reshape(parts.shape))
        fields = torch.fft.irfftn(modes.movedim((-2, -1), (1, 0)), s=P, dim=dims)
        window = fields[(..., *(slice(torus.n) for torus in self.tori))].reshape(len(white), -1)
        found = torch.empty_like(window)
        found[:, self.order] = window
        return found


def _tori(law: StationaryLaw, grid: Grid | PointSet, image: float) -> Iterator[_Torus]:
    """Axes on which a law is stationary, in their order; see `IMAGES`."""
    if isinstance(grid, PointSet):
        return
    for i, axis in enumerate(grid.axes):
        torus = _torus(law, grid, i, axis, image) if axis.uniform and axis.size > 1 else None
        if torus is not None:
            yield torus


def _torus(law: StationaryLaw, grid: Grid, i: int, axis: Axis, image: float) -> _Torus | None:
    geometry, near, far = law.geometry, _reach(law.nu, image), _reach(law.nu, NEGLIGIBLE[law.nu])
    if geometry.sphere and i in geometry.sphere:
        return _longitude(law, grid, axis, image) if i == geometry.sphere[0] else None
    if geometry.periods[i] is not None:
        return _Torus(i, axis.size, axis.size, axis.spacing, (0,))
    length = max(law.lengths[k] for k in geometry.planar[:2]) if law.azimuth is not None else law.lengths[i]
    cells = length / axis.spacing
    if near * cells > MOST_CELLS:
        return None
    P = next_fast_len(axis.size - 1 + math.ceil(near * cells), real=True)
    q = math.floor((far * cells + P / 2) / P)
    return _Torus(i, axis.size, P, axis.spacing, tuple(range(-q, q + 1)))


def _longitude(law: StationaryLaw, grid: Grid, axis: Axis, image: float) -> _Torus | None:
    """The circle, or a part of it, chords along the parallel nearest to a pole being the shortest."""
    assert law.geometry.sphere
    lon, lat = law.geometry.sphere
    circle = round(360 / axis.spacing)
    if abs(circle * axis.spacing / 360 - 1) > EVEN or axis.size > circle:
        return None
    most = max(abs(c) for c in grid.axes[lat].coordinates)
    diameter = 2 * EARTH_RADIUS / law.lengths[lon] * max(math.cos(math.radians(most)), 0.0)

    def cells(correlation: float) -> int:
        share = _reach(law.nu, correlation) / max(diameter, 1e-12)
        return circle if share >= 1 else math.ceil(2 * math.degrees(math.asin(share)) / axis.spacing)

    parts = range(circle // min(axis.size + cells(image), circle), 0, -1)
    K = next(k for k in parts if circle % k == 0)
    P = circle // K
    images = [k for k in range(K) if min(k, K - k) * P - P // 2 <= cells(NEGLIGIBLE[law.nu])]
    return _Torus(lon, axis.size, P, axis.spacing, tuple(images))


def _reach(nu: float, correlation: float) -> float:
    """Distance in lengths at which a Matern law has this correlation; Newton's steps on its logarithm."""
    z = -math.log(correlation)
    for _ in range(50):
        polynomial = {0.5: 1.0, 1.5: 1 + z, 2.5: 1 + z + z**2 / 3}[nu]
        z = math.log(polynomial / correlation)
    return z / math.sqrt(2 * nu)


def _covariances(law: StationaryLaw, tori: tuple[_Torus, ...], at: Tensor, lags: Tensor, home: bool = True) -> Tensor:
    """C_P of the points b at some lags, shape `(pairs, lags)`, pairs b >= b' in the order of `torch.tril_indices`.

    Arguments:
        law: Of the field.
        tori: Its axes.
        at: Points b, shape `(B, ndim)`.
        lags: In cells, shape `(lags, tori)`.
        home: Whether the field itself is among its images.
    """
    steps = at.new_zeros((len(tori), at.shape[1]))
    for j, torus in enumerate(tori):
        steps[j, max(torus.axis, 0)] = torus.step
    P, here, B = lags.new_tensor([torus.P for torus in tori]), law.embed(at), len(at)
    found = at.new_zeros((B * (B + 1) // 2, len(lags)))
    for image in product(*(torus.images for torus in tori)):
        if not home and not any(image):
            continue
        shifts = (lags + lags.new_tensor(image) * P).to(at) @ steps
        away = law.embed((at[:, None] + shifts).reshape(-1, at.shape[1])).reshape(B, len(lags), -1)
        for b in range(B):
            first = b * (b + 1) // 2
            found[first : first + b + 1] += law.between(away[: b + 1], here[b][None])[..., 0]
    return found


def _excess(law: StationaryLaw, tori: tuple[_Torus, ...], at: Tensor) -> tuple[Tensor, float]:
    """What images add at lag zero, shape `(pairs,)`, and how much that changes within the window, of the variance."""
    edges = torch.cartesian_prod(*(torch.tensor([0, torus.n - 1]) for torus in tori)).reshape(-1, len(tori))
    added = _covariances(law, tori, at, edges, home=False)
    return added[:, 0], float((added - added[:, :1]).abs().max()) / law.variance


def _spectrum(law: StationaryLaw, tori: tuple[_Torus, ...], at: Tensor) -> Tensor:
    """S of all pairs at the modes of a real transform, shape `(pairs, *modes)`.

    A law along the axes has the same covariance at lags h and -h of each of them: half of the lags make half of the
    modes.
    """
    even, P = law.azimuth is None, [torus.P for torus in tori]
    counts = [period // 2 + 1 if even else period for period in P]
    lags = torch.cartesian_prod(*(torch.arange(count) for count in counts)).reshape(-1, len(tori))
    lags = torch.where(lags > lags.new_tensor(P) // 2, lags - lags.new_tensor(P), lags)
    S = _covariances(law, tori, at, lags).reshape(-1, *counts)
    if even:
        for j, period in enumerate(P, start=1):
            half = torch.fft.hfft(S.movedim(j, -1), n=period)[..., : period // 2 + 1]
            S = half.movedim(-1, j)
        for j, period in enumerate(P[:-1], start=1):
            modes = torch.arange(period)
            S = S.index_select(j, torch.minimum(modes, period - modes))
    else:
        S = torch.fft.rfftn(S, dim=list(range(1, S.ndim))).real
    return S.contiguous()


def _root(law: StationaryLaw, S: Tensor, excess: Tensor) -> Tensor | None:
    """L at each mode, an excess taken off the first; None where the matrices are not positive definite."""
    first = S.flatten(1)[:, 0]  # a view
    first -= excess
    if len(S) == 1:
        return S[0, ..., None, None].clamp_min(0.0).sqrt() if float(first[0]) >= 0 else None
    B = math.isqrt(2 * len(S))
    row, column = torch.tril_indices(B, B)
    lower = S.new_zeros((*S.shape[1:], B, B))
    lower[..., row, column] = S.movedim(0, -1)
    for jitter in JITTERS:
        lower.diagonal(dim1=-2, dim2=-1).add_(jitter * JITTER * law.variance)
        root, failed = torch.linalg.cholesky_ex(lower)
        if not bool(failed.any()):
            return root
    return None
