"""Diagnostics of lightcones where the answer is known: Gaussian fields, single waves, ensembles of one law."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from infield.core.spectra import wavenumbers
from infield.posterior.cm21.cone_statistics import (
    SpectrumBins,
    chunks,
    fully_ionised_fraction,
    global_signal,
    voxel_density,
)
from infield.posterior.cm21.scattering import Scattering
from infield.posterior.diagnostics.ensembles import bootstrap_band, ensemble_error, floor, median_and_spread

SHAPE, SPACING = (12, 12, 16), (4.0, 4.0, 3.0)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=rng(seed), dtype=torch.float64)


def power_law(k):
    """mK^2 Mpc^3."""
    return 4e3 * k.clamp(min=1e-9) ** -1.5


def gaussian_cones(n, seed=0, spectrum=power_law):
    """Periodic Gaussian fields of a known spectrum: T_k = (P / V)^(1/2) times unit complex noise."""
    k = [2 * math.pi * torch.fft.fftfreq(m, d, dtype=torch.float64) for m, d in zip(SHAPE, SPACING, strict=True)]
    k = torch.sqrt(k[0][:, None, None] ** 2 + k[1][:, None] ** 2 + k[2] ** 2)
    volume = math.prod(m * d for m, d in zip(SHAPE, SPACING, strict=True))
    white = torch.fft.fftn(normal(n, *SHAPE, seed=seed), dim=(1, 2, 3), norm="ortho")
    return torch.fft.ifftn(white * (spectrum(k) / volume * (k > 0)).sqrt(), dim=(1, 2, 3), norm="forward").real


# --- ensembles ---


@pytest.mark.parametrize(("members", "standard", "spread"), [(800, 0.050, 0.038), (200, 0.10, 0.076)])
def test_two_ensembles_of_one_law_are_at_the_floor(members, standard, spread):
    """The figures of the literature's metric for independent Gaussian ensembles, from one ensemble by halves."""
    y = 3 + 2 * normal(2 * members, 600)
    found = floor(y, 0.0, rng(1), sizes=(members, members), splits=4)
    assert found.halves["MAE_std"] == pytest.approx(standard, rel=0.06)
    assert found.halves["MAE_sigma"] == pytest.approx(spread, rel=0.08)
    assert found.expected == pytest.approx(found.halves)
    direct = ensemble_error(y[:members], y[members:]).scores
    assert direct["MAE_std"] == pytest.approx(standard, rel=0.1)
    assert 0.8 * 1.2533 * math.sqrt(2 / members) == pytest.approx(standard, rel=0.02)


def test_the_floor_follows_the_sizes_that_are_compared():
    y = normal(400, 500)
    found = floor(y, 0.0, rng(1), sizes=(400, 100), splits=4)
    truth = [ensemble_error(normal(400, 500, seed=s), normal(100, 500, seed=s + 9)).scores["MAE_std"] for s in (2, 3)]
    assert found.expected["MAE_std"] == pytest.approx(np.mean(truth), rel=0.1)
    assert found.expected["MAE_std"] > found.halves["MAE_std"]


def test_errors_are_what_was_put_in():
    """Another mean and another spread, by the definitions; what is too small is not kept."""
    base = normal(4000, 3) * torch.tensor([1.0, 5.0, 0.1]) + torch.tensor([10.0, -20.0, 0.0])
    other = normal(4000, 3, seed=1) * torch.tensor([1.5, 5.0, 0.1]) + torch.tensor([10.0, -10.0, 0.0])
    errors = ensemble_error(base, other, threshold=0.5)
    assert errors.standard[1] == pytest.approx(2.0, abs=0.15) and errors.relative[1] == pytest.approx(0.5, abs=0.03)
    assert errors.spread[0] == pytest.approx(0.5, abs=0.1) and torch.isnan(errors.standard[2])
    assert torch.isnan(errors.relative[2]) and errors.kept == pytest.approx(2 / 3)
    _, spread = median_and_spread(base)
    torch.testing.assert_close(spread, torch.tensor([1.0, 5.0, 0.1], dtype=torch.float64), rtol=0.06, atol=0)
    assert abs(errors.standard[0]) < 0.1 < abs(errors.standard[1])


def test_bootstrap_bands_cover_the_truth():
    """Of 200 experiments without a difference, one a bin, about 68 % of the bands hold zero."""
    a, b = normal(60, 200), normal(60, 200, seed=1)
    low, high = bootstrap_band(lambda x, y: ensemble_error(x, y).standard, a, b, rng(2), draws=80)
    assert ((low <= 0) & (high >= 0)).double().mean() == pytest.approx(0.68, abs=0.14)
    low, high = bootstrap_band(lambda x, y: ensemble_error(x, y).standard, a, b + 1, rng(2), draws=80)
    assert low.median() > 0.5  # a difference of one standard deviation is seen


# --- one-point ---


def test_global_signal_and_zeros():
    cones = normal(3, *SHAPE)
    cones[:, :6, :, 2] = 0
    cones[1, :, :, 5] = 0
    torch.testing.assert_close(global_signal(cones), torch.from_numpy(cones.numpy().mean((1, 2))))
    zeros = fully_ionised_fraction(cones)
    assert zeros.shape == (3, 16) and (zeros[:, 2] == 0.5).all() and zeros[1, 5] == 1 and zeros.sum() == 2.5
    assert fully_ionised_fraction(cones + 1e-9).sum() == 0  # nearly zero is not zero


def test_voxel_density_is_the_share_of_all_voxels():
    cones = normal(2, *SHAPE)
    cones[:, :6] = 0
    edges = torch.linspace(-6, 6, 25, dtype=torch.float64)
    density = voxel_density(cones, edges)
    torch.testing.assert_close((density * edges.diff()).sum(1), torch.full((2,), 0.5, dtype=torch.float64))
    middle = (edges[1:] + edges[:-1]) / 2
    normal_law = 0.5 * torch.exp(-(middle**2) / 2) / math.sqrt(2 * math.pi)
    assert (density.mean(0) - normal_law).abs().max() < 0.03


def test_chunks():
    assert chunks(20, 8) == [slice(0, 8), slice(8, 16)] and chunks(7, 8) == []


# --- spectra ---


def test_the_spectrum_of_gaussian_fields_in_z_scores():
    """Delta^2 and P over 200 fields against what they were drawn from; with another spectrum they are far off."""
    shells = SpectrumBins(SHAPE, SPACING, taper=False)
    for factor, right in ((1.0, True), (1.1, False)):
        power = shells.power(factor**0.5 * gaussian_cones(200))
        k, delta = shells.spherical(power)
        _, expected = shells.spherical(_expected(shells)[None])
        z = (delta.mean(0) - expected[0]) / (delta.std(0) / math.sqrt(200))
        assert (z.abs().max() < 4.5) == right, z
        k_perp, k_par, cylindrical = shells.cylindrical(power)
        _, _, expected = shells.cylindrical(_expected(shells)[None])
        z = (cylindrical.mean(0) - expected[0]) / (cylindrical.std(0) / math.sqrt(200))
        assert (z.abs().max() < 5) == right
    assert shells.fundamental < k[0] < 1.5 * shells.fundamental and (k.diff() > 0).all()
    assert k[-1] < math.pi / 4 * 1.1 and k_par[0] == pytest.approx(2 * math.pi / 48) and len(k_par) == 8
    assert cylindrical.shape == (200, len(k_perp), 8)


def _expected(shells):
    return power_law(wavenumbers(shells.shape, shells.spacing, radians=True))


def test_one_wave_has_its_power_at_its_place():
    """A cos(k x): the variance A^2 / 2 is the sum of P / V over all modes."""
    shells = SpectrumBins(SHAPE, SPACING, taper=False)
    x, s = 4.0 * torch.arange(12), 3.0 * torch.arange(16, dtype=torch.float64)
    kx, kz = 2 * math.pi / 48 * 3, 2 * math.pi / 48 * 5
    wave = 7 * torch.cos(kx * x[:, None, None] + kz * s).expand(12, 12, 16)[None].double()
    power = shells.power(wave)
    assert power.sum() / (48 * 48 * 48) == pytest.approx(7**2 / 2)
    k_perp, k_par, cylindrical = shells.cylindrical(power)
    at = (cylindrical[0] == cylindrical[0].max()).nonzero()[0]
    assert abs(k_perp[at[0]] - kx) < shells.fundamental / 2 and k_par[at[1]] == pytest.approx(kz)
    assert (cylindrical[0] > 1e-6 * cylindrical[0].max()).sum() == 1


def test_a_taper_keeps_the_spectrum_and_stops_leaks():
    """A slope along the line of sight, which does not close: its jump is all over the spectrum, with a taper it is
    not."""
    shells, plain = SpectrumBins(SHAPE, SPACING), SpectrumBins(SHAPE, SPACING, taper=False)
    cones = gaussian_cones(200)
    smooth, sharp = shells.spherical(shells.power(cones))[1], plain.spherical(plain.power(cones))[1]
    assert (smooth.mean(0) / sharp.mean(0) - 1).abs()[2:].max() < 0.15
    slope = torch.linspace(-40, 40, 16, dtype=torch.float64).expand(1, *SHAPE)
    leak = [s.power(slope)[0, 0, 0, 6] for s in (shells, plain)]
    assert leak[0] < 0.05 * leak[1]


# --- scattering ---


def images(n, seed=0, shape=(16, 16)):
    return normal(n, *shape, seed=seed)


def test_scattering_by_convolution_in_space():
    """Against sums over pixels with the wavelets in space."""
    transform = Scattering((8, 8), scales=2, angles=4)
    x = images(1, shape=(8, 8))[0]
    wavelet = torch.fft.ifft2(transform.wavelets.to(torch.complex128))

    def convolved(image, psi):
        out = torch.zeros(8, 8, dtype=torch.complex128)
        for a in range(8):
            for b in range(8):
                out += image[a, b] * torch.roll(psi, (a, b), (0, 1))
        return out.abs()

    first, second = transform(x[None])
    u = [[convolved(x.to(torch.complex128), wavelet[j, t]) for t in range(4)] for j in range(2)]
    for j in range(2):
        assert first[0, j] == pytest.approx(np.mean([v.mean() for v in u[j]]))
    for l in range(4):
        means = [convolved(u[0][t].to(torch.complex128), wavelet[1, (t + l) % 4]).mean() for t in range(4)]
        assert second[0, 0, l] == pytest.approx(np.mean(means))


def test_scattering_ignores_places_and_constants_and_scales_with_the_field():
    transform = Scattering((16, 16), scales=3)
    x = images(2)
    first, second = transform(x)
    assert first.shape == (2, 3) and second.shape == (2, 3, 4) and transform.pairs == [(0, 1), (0, 2), (1, 2)]
    for same in (torch.roll(x, (3, -5), (1, 2)), x + 12.0, torch.rot90(x, 1, (1, 2)), -x):
        for one, other in zip(transform(same), (first, second), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(transform(3 * x)[1], 3 * second)
    assert transform(torch.ones(1, 16, 16, dtype=torch.float64))[0].abs().max() < 1e-12


def test_scattering_tells_fields_of_one_spectrum_apart():
    """Bubbles and Gaussian fields of the same power: two-point statistics agree, scattering does not."""
    noise = images(40, shape=(32, 32))
    low = torch.exp(-0.5 * (6 * torch.hypot(torch.fft.fftfreq(32)[:, None], torch.fft.fftfreq(32)).double()) ** 2)
    smooth = torch.fft.ifft2(torch.fft.fft2(noise) * low).real
    bubbles = torch.where(smooth > smooth.std(), 1.0, 0.0).double()
    bubbles = bubbles - bubbles.mean((1, 2), keepdim=True)
    amplitude = torch.fft.fft2(bubbles).abs()
    phases = torch.angle(torch.fft.fft2(images(40, seed=5, shape=(32, 32))))
    gaussian = torch.fft.ifft2(torch.polar(amplitude, phases)).real
    torch.testing.assert_close(torch.fft.fft2(gaussian).abs(), amplitude, rtol=1e-6, atol=1e-6)
    transform = Scattering((32, 32), scales=3)
    ratio = transform(bubbles)[0].mean(0) / transform(gaussian)[0].mean(0)
    same = transform(gaussian[:20])[0].mean(0) / transform(gaussian[20:])[0].mean(0)
    assert ratio[0] < 0.75 and (same - 1).abs().max() < 0.12
