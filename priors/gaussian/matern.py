"""Matern covariances of any order: the function, its matrices, its mixture of squared exponentials and its spectra.

k(r) = sigma^2 2^(1-nu) / Gamma(nu) (sqrt(2 nu) r / l)^nu K_nu(sqrt(2 nu) r / l)  (Rasmussen & Williams 2006, eq. 4.14).
"""

from __future__ import annotations

import itertools
import math

import numpy as np
import torch
from torch import Tensor

from infield.priors.gaussian.circulant_embedding import ScaleMixture, torus_spectrum


def matern(distance: Tensor, *, nu: float, length: float, variance: float) -> Tensor:
    """Matern covariance at distances r >= 0 (any shape, same units as `length`), float64."""
    z = math.sqrt(2 * nu) * distance.to(torch.float64).abs() / length
    if nu == 0.5:
        return variance * torch.exp(-z)
    if nu == 1.5:
        return variance * (1 + z) * torch.exp(-z)
    if nu == 2.5:
        return variance * (1 + z + z**2 / 3) * torch.exp(-z)
    from scipy.special import kve, loggamma  # a quarter of a second of a processor, for other orders

    r = z.numpy()
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        value = np.exp((1 - nu) * math.log(2) - loggamma(nu) + nu * np.log(r) + np.log(kve(nu, r)) - r)
    # K_nu overflows near 0; there its ascending series, to second order (DLMF 10.31), is exact to rounding
    q = r**2 / 4
    series = 1 - q / (nu - 1) + q**2 / (2 * (nu - 1) * (nu - 2)) if nu > 2.5 else np.ones_like(r)
    return variance * torch.from_numpy(np.where((r > 1e-10) & np.isfinite(value), value, series))


def matern_matrix(
    points: Tensor, *, nu: float, length: float, variance: float, periods: tuple[float | None, ...] | None = None
) -> Tensor:
    """Dense covariance of the values at scattered points `(n, ndim)`, shape `(n, n)`; arguments of `matern_between`."""
    total = matern_between(points, points, nu=nu, length=length, variance=variance, periods=periods)
    return (total + total.mT) / 2


def matern_between(
    points: Tensor,
    others: Tensor,
    *,
    nu: float,
    length: float,
    variance: float,
    periods: tuple[float | None, ...] | None = None,
) -> Tensor:
    """Covariances between the values at points `(n, ndim)` and at others `(m, ndim)`, shape `(n, m)`.

    Arguments:
        periods: Period of each coordinate, None for a non-periodic one; by default none is periodic.
    """
    periods = (None,) * points.shape[1] if periods is None else periods
    reach = [0 if period is None else math.ceil(_decay_distance(nu, length) / period) + 1 for period in periods]
    total = points.new_zeros((len(points), len(others)))
    for images in itertools.product(*(range(-m, m + 1) for m in reach)):
        shift = [image * (period or 0.0) for image, period in zip(images, periods, strict=True)]
        # the faster cdist by matrix products loses half of the digits between neighbours
        r = torch.cdist(points, others + points.new_tensor(shift), compute_mode="donot_use_mm_for_euclid_dist")
        total += matern(r, nu=nu, length=length, variance=variance)
    return total


def matern_mixture(*, nu: float, length: float, variance: float, finest: float) -> ScaleMixture:
    r"""The covariance function as a mixture of squared exponentials, exact to rounding.

    With :math:`z = \sqrt{2 \nu} r / l`,

    .. math:: k(r) = \frac{\sigma^2}{\Gamma(\nu)} \int_0^\infty t^{\nu - 1} e^{-t} e^{-z^2 / 4t} dt

    (DLMF 10.32.10), by the trapezoidal rule in log t, whose error is :math:`|\Gamma(\nu + i \omega)| / \Gamma(\nu)`,
    omega = 2 pi / step. Terms too narrow to be seen between neighbours are the nugget.

    Arguments:
        finest: Smallest distance between two points.
    """
    from scipy.special import loggamma

    omega = 16.0
    while loggamma(nu + 1j * omega).real - loggamma(nu) > math.log(1e-15):
        omega *= 1.05
    step = 2 * math.pi / omega
    narrowest, widest = nu * finest**2 / (80 * length**2), nu + 10 * math.sqrt(nu) + 40
    first, last = math.ceil(math.log(narrowest) / step), math.floor(math.log(widest) / step)
    t = torch.exp(step * torch.arange(first, max(last + 1, first), dtype=torch.float64))
    weights = step * torch.exp(nu * t.log() - t - float(loggamma(nu)))
    nugget = max(1 - float(weights.sum()), 0.0)
    scales = length * (t / nu).sqrt()
    return ScaleMixture(scales, variance * weights, variance * nugget, _decay_distance(nu, length))


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
    mixture = matern_mixture(nu=nu, length=length, variance=variance, finest=min(spacing))
    return torus_spectrum(mixture, shape, spacing, shape, [True] * len(shape)).clamp_min(0)


def _decay_distance(nu: float, length: float) -> float:
    """Distance at which the covariance has fallen below about 1e-11 of the variance."""
    return length * (23 + 4 * nu) / math.sqrt(2 * nu)
