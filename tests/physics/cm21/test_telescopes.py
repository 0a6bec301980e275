"""Telescopes: uv_tracks, coverage and noise from first principles, the wedge, and what an interferometer cannot see."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from infield import InfieldError
from infield.core.grid import Axis, Grid
from infield.physics.cm21.foreground_wedge import outside_wedge, wedge_slope
from infield.physics.cm21.interferometer import Interferometer, independent_modes, wavenumbers
from infield.physics.cm21.radiometer import POLARISATIONS, visibility_variance
from infield.physics.cm21.telescopes import LIGHT, Telescope, hera_like, hexagon, ska_low_like, spiral
from infield.physics.cm21.uv_coverage import baselines, grid_uv_counts, uv_tracks
from infield.physics.operators.registry import build_operator

SHAPE = (8, 6, 12)
GRID = Grid.regular(SHAPE, (32.0, 24.0, 48.0), names=("x", "y", "los"), units="Mpc", periodic=True)


def everything(channels=SHAPE[2]):
    """All independent modes of all channels."""
    return independent_modes(*SHAPE[:2])[..., None].expand(-1, -1, channels).clone()


def sky(seed=0, batch=1):
    return torch.randn(batch, 1, *SHAPE, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- the operator ---


def test_visibilities_are_sums_over_the_sky_in_angles():
    """V(u) = sum of T exp(-2 pi i u l) dOmega (van Cittert and Zernike), with u and l in waves and radians."""
    A, x, distance = Interferometer(GRID, everything()), sky(), 9000.0
    (nx, ny, _), (dx, dy, _), (lx, ly, _) = SHAPE, GRID.spacing, GRID.lengths
    l, m = np.arange(nx) * dx / distance, np.arange(ny) * dy / distance
    domega = dx * dy / distance**2
    y = A.A(x)[0]
    for i, j in np.argwhere(independent_modes(nx, ny).numpy()):
        u, v = np.fft.fftfreq(nx, 1 / nx)[i] * distance / lx, j * distance / ly
        wave = np.exp(-2j * np.pi * (u * l[:, None] + v * m[None, :]))
        V = (x[0, 0].numpy() * wave[..., None]).sum((0, 1)) * domega
        found = (y[0] + 1j * y[1])[i, j].numpy() * (lx * ly / distance**2) / math.sqrt(nx * ny)
        np.testing.assert_allclose(found, V, rtol=1e-10, atol=1e-16)
    kx, ky = wavenumbers(GRID)
    assert kx[1] == pytest.approx(2 * math.pi / lx) and ky[1] == pytest.approx(2 * math.pi / ly)


def test_no_interferometer_sees_the_mean_of_a_channel():
    A, x = Interferometer(GRID, everything()), sky()
    shifted = x + torch.linspace(-50, 20, SHAPE[2])
    assert (A.A(shifted) - A.A(x)).abs().max() < 1e-12 and A.A(x).abs().max() > 1
    assert (A.A_adjoint(A.A(x)).mean((2, 3))).abs().max() < 1e-12


@pytest.mark.parametrize(("nx", "ny"), [(4, 4), (5, 4), (4, 5), (5, 5), (8, 6), (2, 2), (3, 1)])
def test_one_of_each_pair_of_modes_is_independent(nx, ny):
    kept = independent_modes(nx, ny).numpy()
    full = np.zeros((nx, ny), dtype=int)
    for i, j in np.argwhere(kept):
        full[i, j] += 1
        full[-i % nx, -j % ny] += 1
    own = [[(2 * i) % nx == 0 and (2 * j) % ny == 0 for j in range(ny)] for i in range(nx)]
    np.testing.assert_array_equal(full, 1 - np.array(own))  # each once, none that is its own mirror image


def test_channels_are_means_of_cells_and_delays_keep_the_energy():
    x = sky()
    single = Interferometer(GRID, everything()).A(x)
    double = Interferometer(GRID, everything(6), channel_cells=2).A(x)
    torch.testing.assert_close(double, (single[..., ::2] + single[..., 1::2]) / 2)
    delays = Interferometer(GRID, everything(), delay_channels=4).A(x)
    for s in range(0, 12, 4):
        energy = [v[..., s : s + 4].square().sum((1, 4)) for v in (single, delays)]
        torch.testing.assert_close(*energy)
    assert (single - delays).abs().max() > 0.1


def test_a_flat_field_makes_the_beam_visible():
    """A Gaussian beam is halved at half its width from the middle, and couples modes."""
    fwhm = np.full(SHAPE[2], 8.0)
    description = {"name": "interferometer", "arrays": {"mask": "m", "beam_fwhm": "w"}}
    A = build_operator(description, {"m": everything().numpy(), "w": fwhm}, GRID, 1)
    assert A.beam[4, 3, 0] == 1 and A.beam[5, 3, 0] == pytest.approx(0.5) and A.row_power is None
    assert A.A(torch.ones(1, 1, *SHAPE, dtype=torch.float64)).abs().max() > 0.1


@pytest.mark.parametrize(
    ("change", "parameters", "message"),
    [
        ((0, 0), {}, "found a mask with k = 0"),
        ((5, 0), {}, "both modes of a mirrored pair"),
        (None, {"channel_cells": 5}, "channels of 5 cells on 12 cells, expected a divisor"),
        (None, {"delay_channels": 5}, "stretches of 5 channels on 12 channels"),
        (None, {"channel_cells": 0}, "channel_cells 0, expected a whole number"),
        (None, {"delay_channels": True}, "delay_channels True"),
        (None, {"channels": 3}, "found parameter channels"),
        (None, {"channel_cells": 2}, r"mask of shape \(8, 4, 12\), expected \(8, 4, 6\)"),
    ],
)
def test_files_that_describe_no_telescope(change, parameters, message):
    mask = everything().numpy()
    if change is not None:
        mask[change] = True
    description = {"name": "interferometer", "parameters": parameters, "arrays": {"mask": "m"}}
    with pytest.raises(InfieldError, match=message):
        build_operator(description, {"m": mask}, GRID, 1)


def test_the_field_of_a_telescope_has_three_axes():
    with pytest.raises(InfieldError, match="1 channels on 2 axes, expected 1 channel on"):
        build_operator({"name": "interferometer", "arrays": {"mask": "m"}}, {"m": np.ones(1)}, Grid.regular((4, 4)), 1)
    with pytest.raises(InfieldError, match="2 channels on 3 axes"):
        build_operator({"name": "interferometer", "arrays": {"mask": "m"}}, {"m": np.ones(1)}, GRID, 2)


# --- the array ---


def nearest(positions):
    distance = np.linalg.norm(positions[:, None] - positions, axis=-1) + 1e9 * np.eye(len(positions))
    return distance.min()


def test_layouts():
    places = hexagon(11, 14.6)
    assert len(places) == 331 and nearest(places) == pytest.approx(14.6)
    assert np.linalg.norm(places, axis=1).max() == pytest.approx(146.0)
    np.testing.assert_allclose(np.sort(places[:, 0]), np.sort(-places[:, 0]), atol=1e-9)
    places = spiral(224, 500.0)
    assert len(places) == 224 and np.linalg.norm(places, axis=1).max() < 500 and nearest(places) > 35
    inner = (np.linalg.norm(places, axis=1) < 250).mean()
    assert inner == pytest.approx(1 / 4, abs=0.01)  # evenly spread over the disc
    assert len(baselines(places)) == 224 * 223 // 2


def test_tracks_against_three_dimensional_geometry():
    """Baselines as vectors that the Earth turns, seen from the direction of the field."""
    generator = np.random.default_rng(0)
    latitude, declination, hours = -30.0, -20.0, np.array([-2.0, 0.0, 1.5])
    east_north = 100 * generator.standard_normal((5, 2))
    phi, delta = np.radians([latitude, declination])
    up_east, up_north = np.array([0, 1, 0]), np.array([-np.sin(phi), 0, np.cos(phi)])  # frame: meridian, east, pole
    vectors = east_north[:, :1] * up_east + east_north[:, 1:] * up_north
    found = uv_tracks(east_north, latitude, declination, hours)
    for t, hour in enumerate(hours):
        H = math.radians(15 * hour)
        source = np.array([math.cos(delta) * math.cos(H), -math.cos(delta) * math.sin(H), math.sin(delta)])
        to_east = np.array([math.sin(H), math.cos(H), 0])
        to_north = np.cross(source, to_east)
        np.testing.assert_allclose(found[t, :, 0], vectors @ to_east, atol=1e-9)
        np.testing.assert_allclose(found[t, :, 1], vectors @ to_north, atol=1e-9)
    zenith = uv_tracks(east_north, latitude, latitude, np.array([0.0]))[0]
    np.testing.assert_allclose(zenith, east_north, atol=1e-9)


@pytest.mark.parametrize("points", [(6, 8), (7, 5)])
def test_samples_are_counted_for_the_mode_that_they_measure(points):
    generator = np.random.default_rng(1)
    lengths, distance, frequency = (120.0, 100.0), 9000.0, 150.0
    uv = 150 * generator.standard_normal((3, 40, 2))
    found = grid_uv_counts(uv, points, lengths, distance, frequency)
    expected = np.zeros_like(found)
    for u, v in uv.reshape(-1, 2) * frequency * 1e6 / LIGHT:
        i, j = round(u * lengths[0] / distance), round(v * lengths[1] / distance)
        if abs(i) > (points[0] - 1) // 2 or abs(j) > (points[1] - 1) // 2:
            continue
        if j < 0 or (j == 0 and i < 0):
            i, j = -i, -j
        expected[i % points[0], j] += 1
    kept = independent_modes(*points).numpy()
    np.testing.assert_array_equal(found[kept], expected[kept])
    assert 30 < found[kept].sum() < 120  # some lie beyond the highest mode


# --- noise ---


def test_noise_from_the_voltages_of_antennas():
    """Two antennas without a common signal, correlated over dnu t samples: what is left is noise of a visibility."""
    telescope, generator = ska_low_like(), np.random.default_rng(0)
    frequency, width, interval, samples = 150.0, 1e-6, 50.0, 3  # dnu t = 50 voltages a sample, three samples a cell
    T = float(telescope.system_temperature(frequency))
    trials = 4000
    cells = np.zeros(trials, complex)
    for _ in range(samples * POLARISATIONS):
        shape = (2, trials, round(width * 1e6 * interval))
        voltage = math.sqrt(T / 2) * (generator.standard_normal(shape) + 1j * generator.standard_normal(shape))
        cells += (voltage[0] * voltage[1].conj()).mean(1)
    correlation = cells / (samples * POLARISATIONS)  # K of antenna temperature
    wavelength = LIGHT / (frequency * 1e6)
    visibility = correlation * wavelength**2 / telescope.effective_area(frequency)  # K sr
    points, solid_angle = (32, 24), 2e-4
    mode = 1e3 * visibility * math.sqrt(points[0] * points[1]) / solid_angle  # of the orthonormal transform, mK
    variance = visibility_variance(
        telescope, np.full((1, 1, 1), samples * interval), frequency=np.array([frequency]), width=np.array([width]),
        solid_angle=np.array([solid_angle]), points=points,
    ).item()  # fmt: skip
    found = (mode.real.var() / variance, mode.imag.var() / variance)
    assert found == pytest.approx((0.5, 0.5), rel=0.1)  # 4.5 standard deviations of 4000 trials


def test_noise_in_jansky_beside_tools21cm():
    """`sigma_noise_radio(8, 0.2, 1000, 10)` of tools21cm 2.4.3 gives 0.92423 Jy for a visibility of its stations."""
    stations = Telescope("tools21cm", np.zeros((2, 2)), 0.0, math.pi * 20**2, 110.0, 40.0, 100.0, 0.0, 6.0)
    frequency, solid_angle, points = 1420.0 / 9, 2e-4, (32, 32)
    variance = visibility_variance(
        stations, np.full((1, 1, 1), 10.0), frequency=np.array([frequency]), width=np.array([0.2]),
        solid_angle=np.array([solid_angle]), points=points,
    ).item()  # fmt: skip
    kelvin_sr = 1e-3 * math.sqrt(variance) * solid_angle / 32
    jansky = kelvin_sr * 2 * 1.380649e-23 / (LIGHT / (frequency * 1e6)) ** 2 / 1e-26
    assert jansky == pytest.approx(0.92423, rel=3e-3)


def test_more_time_more_width_and_a_longer_day_are_less_noise():
    def noise(seconds=100.0, width=0.1, frequency=150.0, telescope=None):
        return visibility_variance(
            telescope or hera_like(), np.full((1, 1, 1), seconds), frequency=np.array([frequency]),
            width=np.array([width]), solid_angle=np.array([1e-4]), points=(8, 8),
        ).item()  # fmt: skip

    assert noise(seconds=400) == pytest.approx(noise() / 4) and noise(width=0.2) == pytest.approx(noise() / 2)
    assert noise(seconds=0) == math.inf
    assert noise(frequency=120) > 2 * noise()  # a brighter sky


def test_areas_and_temperatures():
    ska, hera = ska_low_like(), hera_like()
    np.testing.assert_allclose(ska.effective_area(np.array([80.0, 110.0, 220.0])), [962, 962, 962 / 4])
    np.testing.assert_allclose(hera.effective_area(np.array([80.0, 220.0])), math.pi * 49)
    metre = LIGHT / 1e6  # MHz of a wave of 1 m
    assert hera.system_temperature(metre) == pytest.approx(160) and ska.system_temperature(metre) == pytest.approx(106)
    assert math.degrees(hera.beam_fwhm(150.0)) == pytest.approx(8.4, abs=0.1)


# --- the wedge ---


def cone():
    """Distances and redshifts of an Einstein-de Sitter universe, where both are known by formula."""
    z = np.linspace(8.0, 8.4, 12)
    hubble = 70.0  # km/s/Mpc
    D = 2 * LIGHT / 1e3 / hubble * (1 - 1 / np.sqrt(1 + z))
    return D, z, hubble


def test_the_slope_is_that_of_the_delay_of_a_source_on_the_horizon():
    """From the geometry of one baseline: delay b / c, frequencies 1420 MHz / (1 + z), no formula of the wedge."""
    D, z, hubble = cone()
    middle = 8.2
    slope = wedge_slope(D, z)
    frequency = 1420.405751768e6 / (1 + z)
    at = float(np.interp(middle, z, D))
    b, nu = 30.0, 1420.405751768e6 / (1 + middle)
    k_perp = 2 * math.pi * b * nu / LIGHT / at
    turns = b / LIGHT * frequency  # phase of the delay along the line of sight, in turns
    k_par = 2 * math.pi * abs(np.polyfit(D, turns, 1)[0])
    assert slope == pytest.approx(k_par / k_perp, rel=1e-2)
    H = hubble * (1 + middle) ** 1.5
    assert slope == pytest.approx(at * H / (LIGHT / 1e3 * (1 + middle)), rel=1e-2)
    assert wedge_slope(D, z, 30.0) == pytest.approx(slope / 2)


def test_the_wedge_takes_what_it_must_and_nothing_else():
    """Every plane wave of the grid, one by one: no data of those inside, all of the energy of those outside."""
    slope, buffer = 0.6, 0.15
    kx, ky = (k.numpy() for k in wavenumbers(GRID))
    k_perp = np.hypot(kx[:, None], ky)
    k_par = 2 * np.pi * np.fft.fftfreq(SHAPE[2], GRID.spacing[2])
    kept = outside_wedge(k_perp, k_par, slope, buffer)
    A = Interferometer(GRID, everything() & torch.from_numpy(kept), delay_channels=SHAPE[2])
    x, y, s = (np.array(axis.coordinates) for axis in GRID.axes)
    inside = outside = 0
    for i, j in np.argwhere(independent_modes(*SHAPE[:2]).numpy()):
        for c, k in enumerate(k_par):
            phase = np.add.outer(np.add.outer(kx[i] * x, ky[j] * y), k * s) + 0.3
            energy = A.A(torch.from_numpy(np.cos(phase))[None, None]).square().sum().item()
            if abs(k) > slope * k_perp[i, j] + buffer:
                outside += 1
                assert energy == pytest.approx(math.prod(SHAPE) / 4)
            else:
                inside += 1
                assert energy < 1e-18
            assert kept[i, j, c] == (abs(k) > slope * k_perp[i, j] + buffer)
    assert inside > 20 and outside > 20


def test_redshifts_turn_by_the_middle_of_an_uneven_axis():
    axis = Axis("los", (1.0, 2.0, 4.0), "Mpc")
    assert wedge_slope(np.array(axis.coordinates), np.array([8.0, 8.1, 8.3])) == pytest.approx(2.0 / (10 * 9.1))
