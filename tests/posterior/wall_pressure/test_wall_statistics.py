"""Spectra, correlations and moments of planes: densities whose integral is the variance, and what tables print."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from infield.posterior.wall_pressure.wall_statistics import (
    CHANNEL_RMS,
    Correlation,
    WallSpectrum,
    band_energy,
    negative_lobe,
    octave_bands,
    posterior_band,
    rms_law,
    spectral_error_db,
    wall_correlation,
    wall_moments,
    wall_pdf,
    wall_spectrum,
)

SPACING = (11.0, 17.0)


def fields(shape=(3, 10, 14), seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("shape", [(3, 10, 14), (2, 9, 14), (2, 10, 15), (1, 7, 5)])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_the_integral_is_the_variance(shape, axis):
    """Parseval: to rounding, for odd and even numbers of points, with a mean."""
    p = fields(shape) + 0.7
    spectrum = wall_spectrum(p, SPACING[axis], axis)
    torch.testing.assert_close(spectrum.variance, (p**2).mean((1, 2)))
    n = p.shape[axis + 1 if axis >= 0 else axis]
    assert spectrum.density.shape == (len(p), n // 2 + 1)
    dk = 2 * math.pi / (n * SPACING[axis])
    torch.testing.assert_close(spectrum.wavenumber, dk * torch.arange(n // 2 + 1, dtype=torch.float64))
    wrong = (spectrum.density * dk).sum(-1)  # negative control: the same width for every mode
    assert not torch.allclose(wrong, spectrum.variance, rtol=1e-3)


@pytest.mark.parametrize(("mode", "share"), [(0, 1.0), (3, 0.5), (7, 1.0)])
def test_single_waves(mode, share):
    """a cos(k x + phase): all of its variance in one mode, at k in radians per unit length."""
    n, h, a = 14, 17.0, 1.3
    x = h * torch.arange(n, dtype=torch.float64)
    k = 2 * math.pi * mode / (n * h)
    phase = 0.4 if 0 < mode < n // 2 else 0.0
    p = (a * torch.cos(k * x + phase)).expand(2, 5, n)
    spectrum = wall_spectrum(p, h, 1)
    expected = torch.zeros(2, n // 2 + 1, dtype=torch.float64)
    expected[:, mode] = share * a**2
    torch.testing.assert_close(spectrum.plain_sum, expected)
    assert abs(float(spectrum.wavenumber[mode]) - k) < 1e-15
    torch.testing.assert_close(spectrum.density[:, mode], expected[:, mode] / spectrum.width[mode])
    torch.testing.assert_close(spectrum.premultiplied[:, mode], k * expected[:, mode] / spectrum.width[mode])
    across = wall_spectrum(p, 11.0, 0)  # the same field has no other wave than 0 along z
    torch.testing.assert_close(across.plain_sum[:, 0], (p**2).mean((1, 2)))
    assert float(across.plain_sum[:, 1:].abs().max()) < 1e-20


def moving_average(n, count=1200, seed=1):
    """Fields p_i = e_i + e_{i+1} / 2 on a circle: variance 5/4, density (5/4 + cos k) / pi for a spacing of 1."""
    e = fields((count, 1, n), seed)
    return e + 0.5 * e.roll(-1, -1)


@pytest.mark.parametrize("n", [16, 64])
def test_density_of_a_known_process_does_not_depend_on_the_domain(n):
    spectrum = wall_spectrum(moving_average(n), 1.0, 1)
    expected = (1.25 + spectrum.wavenumber.cos()) / math.pi
    error = spectrum.density.std(0) / math.sqrt(len(spectrum.density))
    z = (spectrum.density.mean(0) - expected) / error
    assert float(z.abs().max()) < 4 and 0.4 < float(z.std()) < 1.7
    halves = (spectrum.plain_sum.mean(0) / (2 * math.pi / n) - expected) / error  # negative control: k = 0 not doubled
    assert float(halves[0].abs()) > 8


def test_tapered_spectrum_of_an_open_axis():
    """The Hann taper keeps variance and density of a stationary field on average, where the density is smooth."""
    long = moving_average(1024, 300)
    part = long[..., :64]
    spectrum = wall_spectrum(part, 1.0, 1, periodic=False)
    z = (spectrum.variance.mean() - 1.25) / (spectrum.variance.std() / math.sqrt(len(part)))
    assert abs(float(z) + 1.25 / 64 / float(spectrum.variance.std()) * math.sqrt(300)) < 4  # less the mean removed
    expected = (1.25 + spectrum.wavenumber.cos()) / math.pi
    off = spectrum.density.mean(0)[3:-2] / expected[3:-2] - 1
    assert float(off.abs().max()) < 0.3
    x = torch.arange(64, dtype=torch.float64)
    between = torch.cos(2 * math.pi * 10.5 / 64 * x)[None, None]  # a wave that does not close leaks without a taper
    leaks = [wall_spectrum(between, 1.0, 1, periodic=p).density[0, 25:].max() for p in (True, False)]
    assert float(leaks[0]) > 100 * float(leaks[1])


def test_tables_print_plain_sums():
    """From a field to a table and back; the k = 0 mode of a table counts once, and its density twice."""
    spectrum = wall_spectrum(fields((1, 8, 15)), 17.0, 1)
    table = WallSpectrum.from_plain_sum(spectrum.wavenumber, spectrum.plain_sum[0])
    torch.testing.assert_close(table.density, spectrum.density[0])
    torch.testing.assert_close(table.variance, spectrum.plain_sum[0].sum())
    dk = float(spectrum.wavenumber[1])
    assert abs(float(table.density[0] * dk / 2 - spectrum.plain_sum[0, 0])) < 1e-15
    assert abs(float((spectrum.plain_sum[0] * dk).sum() - table.variance)) > 0.5  # negative control: a dk too many


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("periodic", [True, False])
def test_correlation_is_the_mean_of_products(axis, periodic):
    p = fields((2, 9, 12))
    found = wall_correlation(p, SPACING[axis], axis, periodic=periodic)
    n = p.shape[axis + 1]
    assert found.covariance.shape == (2, n // 2 + 1) and float(found.separation[1]) == SPACING[axis]
    for lag in range(n // 2 + 1):
        moved = p.roll(-lag, axis + 1)
        product = p * moved if periodic else (p * moved).narrow(axis + 1, 0, n - lag)
        torch.testing.assert_close(found.covariance[:, lag], product.mean((1, 2)))
    other = wall_correlation(p, SPACING[axis], axis, periodic=not periodic)  # negative control
    assert not torch.allclose(found.covariance, other.covariance)


def test_correlation_is_the_cosine_transform_of_the_density():
    p = fields((2, 10, 14))
    spectrum, correlation = wall_spectrum(p, 17.0, 1), wall_correlation(p, 17.0, 1)
    cosines = torch.cos(correlation.separation[:, None] * spectrum.wavenumber)
    torch.testing.assert_close(correlation.covariance, (spectrum.plain_sum[:, None] * cosines).sum(-1))


def test_negative_lobe():
    r = torch.linspace(0, 400, 81, dtype=torch.float64)
    lobe = negative_lobe(Correlation(r, torch.stack([3 * torch.cos(2 * math.pi * r / 400), torch.cos(r / 1e9)[:] * 0])))
    assert abs(lobe.zero - 100) < 0.01 and abs(lobe.depth + 1) < 1e-12 and lobe.separation == 200
    positive = negative_lobe(Correlation(r, torch.exp(-r / 50)[None]))
    assert all(math.isnan(value) for value in positive)


def test_moments():
    n = 200_000
    generator = np.random.default_rng(0)
    p = torch.from_numpy(
        np.stack([generator.standard_normal(n), generator.exponential(size=n), generator.laplace(size=n)])
    )
    found = wall_moments(3 + 2 * p)
    np.testing.assert_allclose(found.rms, [2, 2, 2 * math.sqrt(2)], rtol=0.01)
    np.testing.assert_allclose(found.skewness, [0, 2, 0], atol=0.15)
    np.testing.assert_allclose(found.flatness, [3, 9, 6], rtol=0.08)
    two = wall_moments(torch.tensor([[1.0, 1.0, 1.0, -3.0]]))  # exactly: rms sqrt 3, skewness -24/4 / 3^1.5
    assert abs(float(two.skewness) + 6 / 3**1.5) < 1e-6 and abs(float(two.flatness) - 21 / 9) < 1e-6


def test_pdf():
    p = fields((2, 300, 300)) * torch.tensor([1.0, 5.0])[:, None, None]
    density = wall_pdf(p, reach=5.0, bins=40)
    assert density.values.shape == (2, 40)
    torch.testing.assert_close(density.values.sum(1) * 0.25, torch.ones(2, dtype=torch.float64), rtol=0, atol=1e-4)
    edges = torch.linspace(-5, 5, 41, dtype=torch.float64)
    share = torch.from_numpy(stats.norm.cdf(edges)).diff()
    chi_square = ((density.values * 0.25 - share) ** 2 / share * 90_000)[:, 5:-5].sum(1)
    assert (chi_square < stats.chi2.ppf(0.9999, 30)).all()
    other = torch.from_numpy(stats.laplace.cdf(edges, scale=0.5**0.5)).diff()  # negative control
    assert (((density.values * 0.25 - other) ** 2 / other * 90_000)[:, 5:-5].sum(1) > 1000).all()


def test_band_of_the_posterior():
    """A new draw lies inside as often as stated, of few draws too, whose interpolated quantiles are too narrow."""
    values = fields((20, 1, 8000))[:, 0]
    band, new = posterior_band(values[:19], 0.8), values[19]
    np.testing.assert_allclose(band.middle, np.median(values[:19], axis=0))
    assert abs(float(((new > band.low) & (new < band.high)).double().mean()) - 0.8) < 0.02
    low, high = np.quantile(values[:19], (0.1, 0.9), axis=0)
    assert float(((new.numpy() > low) & (new.numpy() < high)).mean()) < 0.77


def test_octave_bands_and_their_energy():
    edges = octave_bands(0.5, 7.9)
    np.testing.assert_allclose(edges, [0.5, 1, 2, 4, 8])
    np.testing.assert_allclose(octave_bands(1.0, 2.0, each=0.5), [1, 2**0.5, 2])
    spectrum = wall_spectrum(fields((3, 4, 32)), 2 * math.pi / 32, 1)  # modes 0, 1, 2, ..., 16
    energy = band_energy(spectrum, edges)
    assert energy.shape == (3, 4)
    torch.testing.assert_close(energy[:, 0], torch.full((3,), torch.nan, dtype=torch.float64), equal_nan=True)
    torch.testing.assert_close(energy[:, 1], spectrum.plain_sum[:, 1])
    torch.testing.assert_close(energy[:, 2], spectrum.plain_sum[:, 2:4].sum(1))


def test_spectral_error_in_decibel():
    p = fields((3, 4, 32))
    edges = octave_bands(1.0, 16.0)
    spectrum, doubled = (wall_spectrum(q, 2 * math.pi / 32, 1) for q in (p, 2 * p))
    torch.testing.assert_close(
        spectral_error_db(doubled, spectrum, edges), torch.full((4,), 20 * math.log10(2)).double()
    )
    assert float(spectral_error_db(spectrum, spectrum, edges).abs().max()) < 1e-12
    k = spectrum.wavenumber
    tilted = WallSpectrum(k, spectrum.density * torch.where(k < 4, 1.0, 10**-0.3), spectrum.width)
    found = spectral_error_db(tilted, spectrum, edges)
    np.testing.assert_allclose(found, [0, 0, -3, -3], atol=1e-12)  # it says which bands are wrong


def test_literature_lies_on_the_logarithmic_law():
    re_tau, rms = (torch.tensor([row[i] for row in CHANNEL_RMS], dtype=torch.float64) for i in (0, 1))
    assert float((rms_law(re_tau).square() - rms.square()).abs().max()) < 0.11
    assert float((rms_law(2 * re_tau).square() - rms.square()).abs().min()) > 1  # negative control
