"""Matern covariances of any order, on periodic grids by FFT and on scattered points by dense algebra.

k(r) = sigma^2 2^(1-nu) / Gamma(nu) (sqrt(2 nu) r / l)^nu K_nu(sqrt(2 nu) r / l)  (Rasmussen & Williams 2006, eq. 4.14).
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from scipy.special import gamma, kv
from torch import Tensor


def matern(distance: Tensor, *, nu: float, length: float, variance: float) -> Tensor:
    """Matern covariance at distances r >= 0 (any shape, same units as `length`), float64."""
    z = math.sqrt(2 * nu) * distance.to(torch.float64).abs() / length
    if nu == 0.5:
        return variance * torch.exp(-z)
    if nu == 1.5:
        return variance * (1 + z) * torch.exp(-z)
    if nu == 2.5:
        return variance * (1 + z + z**2 / 3) * torch.exp(-z)
    r = z.numpy()
    with np.errstate(over="ignore", invalid="ignore"):
        value = 2 ** (1 - nu) / gamma(nu) * r**nu * kv(nu, r)
    # K_nu overflows near 0; there its ascending series, to second order (DLMF 10.31), is exact to rounding
    q = r**2 / 4
    series = 1 - q / (nu - 1) + q**2 / (2 * (nu - 1) * (nu - 2)) if nu > 2.5 else np.ones_like(r)
    return variance * torch.from_numpy(np.where((r > 1e-10) & np.isfinite(value), value, series))


def matern_matrix(
    points: Tensor, *, nu: float, length: float, variance: float, periods: tuple[float | None, ...] | None = None
) -> Tensor:
    """Dense covariance of the values at scattered points `(n, ndim)`, shape `(n, n)`.

    Arguments:
        periods: Period of each coordinate, None for one that does not close on itself; by default none does.
    """
    periods = (None,) * points.shape[1] if periods is None else periods
    reach = [0 if period is None else math.ceil(_decay_distance(nu, length) / period) + 1 for period in periods]
    total = points.new_zeros((len(points), len(points)))
    for images in itertools.product(*(range(-m, m + 1) for m in reach)):
        shift = [image * (period or 0.0) for image, period in zip(images, periods, strict=True)]
        # the faster cdist by matrix products loses half of the digits between neighbours
        r = torch.cdist(points, points + points.new_tensor(shift), compute_mode="donot_use_mm_for_euclid_dist")
        total += matern(r, nu=nu, length=length, variance=variance)
    return (total + total.mT) / 2


def matern_spectrum(
    shape: tuple[int, ...], spacing: tuple[float, ...], *, nu: float, length: float, variance: float
) -> Tensor:
    """Variances of the Hartley modes of a periodic Matern measure on a grid, shape `shape`.

    They are the discrete Fourier transform of the covariance function summed over periodic images, so that the law of
    the values at shared points is the same on every grid, and the spectrum is never negative.

    Arguments:
        shape: Points along each axis.
        spacing: Distance between neighbours along each axis, same units as `length`.
    """
    periods = [n * h for n, h in zip(shape, spacing, strict=True)]
    reach = [math.ceil(_decay_distance(nu, length) / period) for period in periods]
    lags = [torch.arange(n, dtype=torch.float64) * h for n, h in zip(shape, spacing, strict=True)]
    covariance = torch.zeros(shape, dtype=torch.float64)
    for images in itertools.product(*(range(-m - 1, m + 1) for m in reach)):
        shifted = [lag + image * period for lag, image, period in zip(lags, images, periods, strict=True)]
        squares = [s.square().reshape([-1 if i == a else 1 for i in range(len(shape))]) for a, s in enumerate(shifted)]
        covariance += matern(
            torch.stack(torch.broadcast_tensors(*squares)).sum(0).sqrt(), nu=nu, length=length, variance=variance
        )
    return torch.fft.fftn(covariance).real.clamp_min(0)


def _decay_distance(nu: float, length: float) -> float:
    """Distance at which the covariance has fallen below about 1e-10 of the variance."""
    return length * (23 + 4 * nu) / math.sqrt(2 * nu)
