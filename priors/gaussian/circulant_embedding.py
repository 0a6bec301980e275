r"""Circulant embedding: a stationary law on a uniform grid as the restriction of a law on a larger torus.

On a torus a stationary covariance is diagonal in Fourier modes (Dietrich & Newsam 1997, SIAM J. Sci. Comput. 18, 1088;
Wood & Chan 1994, J. Comput. Graph. Stat. 3, 409). Each non-periodic axis of size D becomes an axis of
period P >= 2 D, on which the covariance function k is kept at all lags up to D: seen through the window of the first
points, the law is exactly k. Values at longer lags are free. Either k is cut at P / 2 and mirrored, which often
has modes of negative variance, or it falls smoothly to zero between D and P - D, which on a slightly larger torus has
none (Bachmayr, Graham, Nguyen & Scheichl 2020, SIAM J. Numer. Anal. 58, 2953). Where P - D is beyond the reach of k,
its sum over periodic images is used directly.

The covariance functions here are mixtures of squared exponentials, so that a spectrum in several dimensions is a sum of
products of spectra in one: O(N Q) for N modes and Q terms, with any number of periodic images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from infield.core.errors import InfieldError
from infield.core.transform import Window

LARGEST_TORUS = 2**24
"""Points of the largest torus that is tried (128 MiB a field)."""

NEGATIVE_RTOL = 1e-12
"""A share of the variance in negative modes that counts as none."""

TOLERANCE = 1e-6
"""The largest share of the variance that may be clipped where no torus up to the limit does without."""

WIDENINGS = (0.0, 0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.4, 0.6, 0.8, 1.0)
"""By what share of the reach of k the tori that are tried exceed twice the domain; the last needs no clipping."""

BLOCK_ENTRIES = 2**22
"""Products of one-dimensional spectra that are held at a time."""


@dataclass(frozen=True)
class ScaleMixture:
    """k(r) = sum_q w_q exp(-r^2 / (2 s_q^2)) + nugget [r = 0], with all weights >= 0: positive definite everywhere.

    Arguments:
        scales: s_q, shape `(terms,)`.
        weights: w_q, likewise.
        nugget: Variance of what has no width on the grid in question.
        reach: Distance from which k is zero for all purposes.
    """

    scales: Tensor
    weights: Tensor
    nugget: float
    reach: float


@dataclass(frozen=True)
class Embedding:
    """A stationary law on a torus.

    Arguments:
        window: Part of the torus that is the domain.
        spectrum: Variances of the Hartley modes of the torus, shape `window.torus`, none negative.
        clipped: Share of the variance that was in modes of negative variance, now zero: on the domain no entry of the
            covariance is wrong by more than this share of the variance.
    """

    window: Window
    spectrum: Tensor
    clipped: float


def embed(
    mixture: ScaleMixture,
    shape: tuple[int, ...],
    spacing: tuple[float, ...],
    periodic: tuple[bool, ...],
    *,
    torus: tuple[int, ...] | None = None,
) -> Embedding:
    """Embed a law on a uniform grid in the smallest torus, of those that are tried, on which nothing is clipped.

    Arguments:
        mixture: The law's covariance function.
        shape: Points along each axis.
        spacing: Distances between neighbours.
        periodic: Whether each axis is periodic; such axes are kept.
        torus: Points along each axis of the torus, where that is given.

    Raises:
        InfieldError: If no torus of at most `LARGEST_TORUS` points has less than `TOLERANCE` of its variance in
            negative modes.
    """
    tori = [torus] if torus else list(dict.fromkeys(_tori(mixture.reach, shape, spacing, periodic)))
    best: Embedding | None = None
    for candidate in tori:
        if math.prod(candidate) > LARGEST_TORUS:
            break
        for profile in (smooth_step, half_step):
            spectrum = torus_spectrum(mixture, candidate, spacing, shape, periodic, profile)
            clipped = float(-spectrum.clamp_max(0).sum() / spectrum.sum())
            if best is None or clipped < best.clipped:
                best = Embedding(Window(shape, candidate), spectrum.clamp_min(0), clipped)
        if best is not None and best.clipped <= NEGATIVE_RTOL:
            return best
    if best is None or best.clipped > TOLERANCE:
        found = f"{best.clipped:.1e} of its variance in negative modes" if best else f"a torus of {tori[0]} points"
        raise InfieldError(
            where=f"stationary law on {shape} points that do not close",
            found=found,
            expected=f"at most {TOLERANCE:.0e} on a torus of at most {LARGEST_TORUS} points",
            remedy=(
                "take a shorter length, fewer points, a `rank`, or set `wrap: true` to let correlations wrap around "
                "the domain"
            ),
        )
    return best


def _tori(
    reach: float, shape: tuple[int, ...], spacing: tuple[float, ...], periodic: tuple[bool, ...]
) -> list[tuple[int, ...]]:
    from scipy.fft import next_fast_len  # a quarter of a second of a processor

    def points(n: int, h: float, wider: float) -> int:
        beyond = min((n - 1) * h + wider * reach, reach)  # how much longer than the domain the period is
        return int(next_fast_len(max(n - 1 + math.ceil(beyond / h), n)))

    axes = list(zip(shape, spacing, periodic, strict=True))
    return [tuple(n if wraps else points(n, h, wider) for n, h, wraps in axes) for wider in WIDENINGS]


def smooth_step(x: Tensor) -> Tensor:
    """From 1 for x <= 0 to 0 for x >= 1, with all derivatives."""
    x = x.clamp(1e-3, 1 - 1e-3)  # at the ends it is constant to rounding
    return torch.sigmoid(1 / x - 1 / (1 - x))


def half_step(x: Tensor) -> Tensor:
    """From 1 to 0 at x = 1/2."""
    return torch.heaviside(0.5 - x.to(torch.float64), torch.tensor(0.5, dtype=torch.float64))


def torus_spectrum(
    mixture: ScaleMixture,
    torus: tuple[int, ...],
    spacing: tuple[float, ...],
    shape: tuple[int, ...],
    periodic: Sequence[bool],
    profile: Callable[[Tensor], Tensor] = smooth_step,
) -> Tensor:
    """Variances of the Hartley modes of a torus, shape `torus`; negative ones as they come.

    Arguments:
        mixture: The law's covariance function.
        torus: Points along each axis of the torus.
        spacing: Distances between neighbours.
        shape: Points along each axis of the domain, at whose lags the covariance function is kept.
        periodic: Whether each axis of the domain is periodic.
        profile: How the function falls from 1 to 0 beyond the domain, as a function on [0, 1].
    """
    rows = []
    for m, h, n, wraps in zip(torus, spacing, shape, periodic, strict=True):
        extent = (n - 1) * h
        if wraps or m * h - extent >= mixture.reach:
            rows.append(_closed_rows(mixture.scales / h, m))
        else:
            rows.append(_cut_rows(mixture.scales / h, m, n - 1, profile))
    leading = mixture.weights[:, None] * rows[0] if len(rows) > 1 else mixture.weights[:, None]
    for row in rows[1:-1]:
        leading = (leading[:, :, None] * row[:, None, :]).flatten(1)
    few = max(BLOCK_ENTRIES // max(len(mixture.scales), 1), 1)
    parts = [part.mT @ rows[-1] for part in leading.split(few, dim=1)]
    return torch.cat(parts).reshape(torus) + mixture.nugget


def _closed_rows(scales: Tensor, m: int) -> Tensor:
    """Spectra of exp(-lag^2 / (2 s^2)) summed over images of period m, shape `(terms, m)`; lags in grid points.

    Wide terms by their few aliases in frequency, narrow ones by their few neighbours in space (Poisson summation).
    """
    omega = 2 * math.pi * torch.fft.fftfreq(m, dtype=torch.float64)
    s = scales[:, None]
    wide = torch.zeros((len(scales), m), dtype=torch.float64)
    for alias in range(-4, 5):
        wide += torch.exp(-0.5 * (s * (omega + 2 * math.pi * alias)) ** 2)
    narrow = torch.ones_like(wide)
    for lag in range(1, 6):
        narrow += 2 * torch.exp(-0.5 * (lag / s) ** 2) * torch.cos(lag * omega)
    return torch.where(s > 0.5, math.sqrt(2 * math.pi) * s * wide, narrow)


def _cut_rows(scales: Tensor, m: int, kept: int, profile: Callable[[Tensor], Tensor]) -> Tensor:
    """Spectra of exp(-lag^2 / (2 s^2)), as it is at lags up to `kept` and cut beyond, on a circle of m points."""
    rows = torch.zeros((len(scales), m), dtype=torch.float64)
    for image in (0, -m):
        lag = (torch.arange(m, dtype=torch.float64) + image).abs()
        share = profile((lag - kept) / (m - 2 * kept)) if m > 2 * kept else half_step(lag / m)
        rows += share * torch.exp(-0.5 * (lag / scales[:, None]) ** 2)
    return torch.fft.fft(rows).real
