"""What a wall-pressure plane is judged by: spectra, correlations, moments, p.d.f., and how far two spectra are apart.

Fields are `(batch, *space)` on a uniform grid, in rho u_tau^2; `axis` is counted among the space axes, spacings are in
nu/u_tau. One-sided spectral densities E(k), k in radians per unit length: the integral of E over k >= 0 is the
variance. On a grid that integral is a sum, exact to rounding: `variance = sum(density * width)`, with the width of a
mode dk = 2 pi / L, and dk / 2 for the modes 0 and Nyquist, which stand for one sign of k only. Tables of channels
(Moser, Kim & Mansour 1999) print instead the product, `plain_sum`, of which the variance is the sum without any dk.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from infield.core.spectra import Bins
from infield.posterior.diagnostics.order_statistics import ORDER_STATISTICS
from infield.priors.wall_pressure.synthetic import OFFSET, SLOPE


@dataclass(frozen=True)
class WallSpectrum:
    """One-sided spectra along one axis.

    Arguments:
        wavenumber: k, shape `(modes,)`, from 0, in radians per unit length.
        density: E(k), shape `(batch, modes)` or `(modes,)`, in (units of the field)^2 times length.
        width: Weight of each mode in an integral over k, shape `(modes,)`.
    """

    wavenumber: Tensor
    density: Tensor
    width: Tensor

    @classmethod
    def from_plain_sum(cls, wavenumber: Tensor, plain_sum: Tensor) -> WallSpectrum:
        """From a table whose plain sum over equidistant modes from 0 on is the variance."""
        width = torch.full_like(wavenumber, float(wavenumber[1] - wavenumber[0]))
        width[0] /= 2
        return cls(wavenumber, plain_sum / width, width)

    @property
    def plain_sum(self) -> Tensor:
        """Variance of each mode, shape of `density`: what tables print, without a dk."""
        return self.density * self.width

    @property
    def premultiplied(self) -> Tensor:
        """k E(k), shape of `density`: equal areas over ln k are equal variances."""
        return self.wavenumber * self.density

    @property
    def variance(self) -> Tensor:
        """The integral of E, shape `(batch,)` or none."""
        return self.plain_sum.sum(-1)


def wall_spectrum(p: Tensor, spacing: float, axis: int, *, periodic: bool = True) -> WallSpectrum:
    """One-sided spectra along one axis, averaged over all others.

    Arguments:
        p: Fields, shape `(batch, *space)`.
        spacing: Distance between neighbours along the axis.
        axis: Of the space axes.
        periodic: Whether the axis is periodic. If not, a Hann taper comes first, scaled so that the variance of a
            stationary field is kept on average; it mixes each mode with its two neighbours on both sides, so that what
            is there of the lowest ones is an average, and k = 0 holds no information.
    """
    p = p.movedim(axis + 1 if axis >= 0 else axis, -1)
    n = p.shape[-1]
    if not periodic:
        taper = torch.hann_window(n, periodic=False, dtype=p.dtype, device=p.device)
        p = (p - p.mean(-1, keepdim=True)) * (taper / taper.square().mean().sqrt())
    power = torch.fft.rfft(p, norm="forward").abs().square().reshape(len(p), -1, n // 2 + 1).mean(1)
    single = torch.zeros(n // 2 + 1, dtype=torch.bool, device=p.device)
    single[0] = True
    single[-1] |= n % 2 == 0
    dk = 2 * math.pi / (n * spacing)
    width = torch.where(single, dk / 2, dk).to(p.dtype)
    plain_sum = torch.where(single, power, 2 * power)
    return WallSpectrum(dk * torch.arange(n // 2 + 1, dtype=p.dtype, device=p.device), plain_sum / width, width)


class Correlation(NamedTuple):
    """Two-point covariance along one axis: `separation` `(lags,)`, `covariance` `(batch, lags)`, at 0 the variance."""

    separation: Tensor
    covariance: Tensor


def wall_correlation(p: Tensor, spacing: float, axis: int, *, periodic: bool = True) -> Correlation:
    """R(r) = mean of p(x) p(x + r) along one axis, averaged over all others, up to half the extent.

    No mean is removed: fields are fluctuations. On a non-periodic axis the mean is over the pairs there are.
    """
    p = p.movedim(axis + 1 if axis >= 0 else axis, -1)
    n = p.shape[-1]
    lags = n // 2 + 1
    length = n if periodic else 2 * n
    power = torch.fft.rfft(p, n=length).abs().square().reshape(len(p), -1, length // 2 + 1).mean(1)
    pairs = torch.full((lags,), n) if periodic else n - torch.arange(lags)
    covariance = torch.fft.irfft(power, n=length)[:, :lags] / pairs.to(p)
    return Correlation(spacing * torch.arange(lags, dtype=p.dtype, device=p.device), covariance)


class Lobe(NamedTuple):
    """The negative lobe of a correlation: where it first is zero, its lowest value over R(0), and where that is.

    All NaN where the correlation stays positive.
    """

    zero: float
    depth: float
    separation: float


def negative_lobe(correlation: Correlation) -> Lobe:
    """The lobe of the correlation averaged over the batch; the zero by linear interpolation."""
    r, values = correlation.separation, correlation.covariance.mean(0)
    values = values / values[0]
    below = (values < 0).nonzero()
    if len(below) == 0:
        return Lobe(math.nan, math.nan, math.nan)
    i = int(below[0])
    zero = r[i - 1] + (r[i] - r[i - 1]) * values[i - 1] / (values[i - 1] - values[i])
    lowest = int(values.argmin())
    return Lobe(float(zero), float(values[lowest]), float(r[lowest]))


class WallMoments(NamedTuple):
    """Root mean square, skewness and flatness (3 for a Gaussian) of each field, shape `(batch,)`."""

    rms: Tensor
    skewness: Tensor
    flatness: Tensor


def wall_moments(p: Tensor) -> WallMoments:
    """Moments of each field about its own mean."""
    p = p.flatten(1)
    p = p - p.mean(1, keepdim=True)
    rms = p.square().mean(1).sqrt()
    return WallMoments(rms, (p**3).mean(1) / rms**3, (p**4).mean(1) / rms**4)


class Density(NamedTuple):
    """A p.d.f. on bins: `centres` `(bins,)`, `values` `(batch, bins)`; values outside the bins count as outside."""

    centres: Tensor
    values: Tensor


def wall_pdf(p: Tensor, *, reach: float = 8.0, bins: int = 64) -> Density:
    """The p.d.f. of p / p_rms of each field, about its own mean, between -reach and reach."""
    p = p.flatten(1).to(torch.float64)
    p = (p - p.mean(1, keepdim=True)) / p.std(1, keepdim=True, correction=0)
    edges = torch.linspace(-reach, reach, bins + 1, dtype=torch.float64)
    counts = torch.stack([torch.histogram(field.cpu(), edges).hist for field in p])
    return Density((edges[1:] + edges[:-1]) / 2, counts / (p.shape[1] * edges.diff()))


class Band(NamedTuple):
    """Quantiles over the draws of a posterior, each `(values,)`."""

    low: Tensor
    middle: Tensor
    high: Tensor


def posterior_band(values: Tensor, level: float = 0.9) -> Band:
    """The central band of a level, and the median, of what each draw gives, `(draws, values)`.

    By order statistics: a new draw lies inside as often as stated, of few draws too.
    """
    shares = [(1 - level) / 2, 0.5, (1 + level) / 2]
    found = np.quantile(values.cpu().numpy(), shares, axis=0, method=ORDER_STATISTICS)
    return Band(*torch.from_numpy(found).to(values))


def octave_bands(lowest: float, highest: float, *, each: float = 1.0) -> Tensor:
    """Edges of bands from `lowest` to at least `highest`, each of so many octaves, shape `(bands + 1,)`."""
    count = max(math.ceil(math.log2(highest / lowest) / each - 1e-9), 1)
    return lowest * 2.0 ** (each * torch.arange(count + 1, dtype=torch.float64))


def band_energy(spectrum: WallSpectrum, edges: Tensor) -> Tensor:
    """Variance in each band of wavenumbers, shape `(..., bands)`; NaN in a band that holds no mode.

    A mode belongs to the band `[low, high)` that its wavenumber lies in, whole.
    """
    return Bins.between(spectrum.wavenumber, edges).sum(spectrum.plain_sum, empty=math.nan)


def spectral_error_db(spectrum: WallSpectrum, reference: WallSpectrum, edges: Tensor) -> Tensor:
    """10 log10 of the ratio of the mean energies in each band, in dB, shape `(bands,)`; NaN where one holds no mode.

    Arguments:
        spectrum: Of the draws, `(draws, modes)`; their mean energy counts.
        reference: Of the truth or of fields of the right law; the same length of domain, or the bands must be wide
            enough for both.
        edges: Of the bands, see `octave_bands`.
    """
    energies = []
    for one in (spectrum, reference):
        energy = band_energy(one, edges)
        energies.append(energy.mean(0) if energy.ndim > 1 else energy)
    return 10 * torch.log10(energies[0] / energies[1])


def rms_law(re_tau: Tensor) -> Tensor:
    """r.m.s. wall pressure of channels in wall units, from 2.32 ln Re_tau - 9.61."""
    return (SLOPE * re_tau.log() + OFFSET).sqrt()


CHANNEL_RMS = (
    (178.1, 1.533, "Moser, Kim & Mansour 1999"),
    (392.2, 2.050, "Moser, Kim & Mansour 1999"),
    (587.2, 2.281, "Moser, Kim & Mansour 1999"),
    (186.3, 1.581, "del Alamo & Jimenez 2003"),
    (546.7, 2.258, "del Alamo & Jimenez 2003"),
    (934.0, 2.508, "del Alamo et al. 2004"),
    (2003.0, 2.817, "Hoyas & Jimenez 2006"),
)
"""Re_tau, r.m.s. wall pressure in wall units, and the direct numerical simulation that it is from."""


@dataclass(frozen=True)
class WallStatistics:
    """All of these of a batch of planes, along `z` and `x`.

    Arguments:
        spectra: One-sided spectra, `(batch, modes)`.
        correlations: R(r), `(batch, lags)`.
        moments: r.m.s., skewness, flatness, `(batch,)`.
        pdf: Of p / p_rms, `(batch, bins)`.
    """

    spectra: Mapping[str, WallSpectrum]
    correlations: Mapping[str, Correlation]
    moments: WallMoments
    pdf: Density

    @classmethod
    def of(cls, p: Tensor, spacing: tuple[float, float], periodic: tuple[bool, bool] = (True, True)) -> WallStatistics:
        """Of planes `(batch, z, x)`; spacings and whether the axes close, in the same order."""
        axes = tuple(zip(("z", "x"), (0, 1), spacing, periodic, strict=True))
        return cls(
            {name: wall_spectrum(p, step, axis, periodic=wraps) for name, axis, step, wraps in axes},
            {name: wall_correlation(p, step, axis, periodic=wraps) for name, axis, step, wraps in axes},
            wall_moments(p),
            wall_pdf(p),
        )

    @classmethod
    def joined(cls, parts: Sequence[WallStatistics]) -> WallStatistics:
        """Of the planes of several batches, one after the other."""
        first = parts[0]
        return cls(
            {
                name: WallSpectrum(one.wavenumber, torch.cat([part.spectra[name].density for part in parts]), one.width)
                for name, one in first.spectra.items()
            },
            {
                name: Correlation(one.separation, torch.cat([part.correlations[name].covariance for part in parts]))
                for name, one in first.correlations.items()
            },
            WallMoments(*(torch.cat(values) for values in zip(*(part.moments for part in parts), strict=True))),
            Density(first.pdf.centres, torch.cat([part.pdf.values for part in parts])),
        )
