"""Mock observations: the right modes are measured with the right noise, and the file says so."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch

from infield import InfieldError
from infield.datasets.cm21.cosmology import cosmology, distances_of, redshifts_of
from infield.datasets.cm21.lightcone_file import Lightcones, lightcone_grid
from infield.datasets.cm21.observation import Observation, ObservedField, read_layout
from infield.datasets.formats.measurement import open_measurement
from infield.physics.cm21.radiometer import visibility_variance
from infield.physics.cm21.telescopes import hera_like, ska_low_like, spiral

N, DEPTH, CELL = 8, 12, 16.0


def cones():
    distance = float(distances_of(8.0, cosmology())) + CELL * np.arange(DEPTH)
    grid = lightcone_grid((N, N), CELL, distance)
    return Lightcones(grid=grid, redshift=redshifts_of(distance, cosmology()), samples=1, parameters={})


def field(cells=range(DEPTH), **settings):
    few = dataclasses.replace(ska_low_like(spiral(30, 150.0)), hours_a_day=2.0)
    return ObservedField(cones(), cells, Observation(**({"telescope": few, "hours": 1000.0} | settings)))


def cone(seed=0):
    return 10 * torch.randn(N, N, DEPTH, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_hours_are_shared_among_the_cells():
    """All baselines together take hours times baselines, less what lies beyond the highest mode and in k = 0."""
    seen = field(interval=600.0)
    pairs = 30 * 29 / 2
    both = seen.seconds[..., 0].sum() + seen.seconds[:, 1 : N // 2, 0].sum()  # other columns stand for two
    assert both / 2 <= pairs * 1000 * 3600 * (1 + 1e-12)
    assert both / 2 > 0.5 * pairs * 1000 * 3600
    assert seen.seconds[0, 0].min() >= 0 and not seen.mask[0, 0].any()


def test_channels_have_their_frequencies_and_widths():
    seen = field(channel_cells=3)
    frequency = 1420.405751768 / (1 + cones().redshift)
    np.testing.assert_allclose(seen.channel_frequency, frequency.reshape(4, 3).mean(1))
    edges = np.interp(np.arange(0, DEPTH, 3) + 1, np.arange(DEPTH), np.abs(np.gradient(frequency)))
    np.testing.assert_allclose(seen.channel_width, 3 * edges, rtol=2e-3)
    assert seen.mask.shape == (N, N // 2 + 1, 4)


def test_noise_is_that_of_the_formula_in_the_file(tmp_path):
    """What is written is read again; over the observed data the noise has the stated variance."""
    seen = field()
    deviations = []
    for seed in range(40):
        measurement = seen.measure(cone(), seed)
        noise = measurement.y - measurement.operator.A(measurement.truth)
        deviations.append((noise[0] / torch.from_numpy(seen.variance).sqrt())[measurement.observed])
    z = torch.cat(deviations)
    assert z.var().item() == pytest.approx(1, abs=5 * math.sqrt(2 / len(z))) and abs(z.mean()) < 5 / math.sqrt(len(z))
    variance = visibility_variance(
        seen.observation.telescope, seen.seconds, frequency=seen.channel_frequency, width=seen.channel_width,
        solid_angle=(N * CELL) ** 2 / seen.distance**2, points=(N, N),
    )  # fmt: skip
    np.testing.assert_allclose(seen.variance[seen.mask], variance[seen.mask] / 2)
    seen.write(tmp_path / "m.zarr", measurement, history="test")
    again = open_measurement(tmp_path / "m.zarr")
    assert torch.equal(again.y, measurement.y) and torch.equal(again.truth, measurement.truth)
    assert again.operator.name == "interferometer" and again.operator.row_power == 0.5 and again.units == "mK"
    observed = measurement.observed
    assert torch.equal(again.noise.variance[observed], measurement.noise.variance[observed])
    assert again.grid == measurement.grid


def test_delays_have_the_mean_noise_of_their_stretch_and_need_all_of_its_channels():
    channels, delays = field(), field(delay_channels=4)
    covered = (channels.seconds > 0).reshape(N, N // 2 + 1, 3, 4).all(-1)
    independent = channels.mask.any(-1)
    expected = np.repeat(covered & independent[..., None], 4, axis=-1)
    np.testing.assert_array_equal(delays.mask, expected)
    assert 0 < delays.mask.sum() <= channels.mask.sum()
    mean = np.repeat(channels.variance.reshape(N, N // 2 + 1, 3, 4).mean(-1), 4, axis=-1)
    np.testing.assert_allclose(delays.variance[delays.mask], mean[delays.mask])
    np.testing.assert_allclose(delays.k_los[:4], 2 * np.pi * np.fft.fftfreq(4, CELL))


def test_noise_after_the_delay_transform_by_drawing_it():
    """Noise of unequal channels, transformed: its variance is the same in every delay, the mean of the channels'."""
    channels = field()
    i, j = np.argwhere(field(delay_channels=4).mask[..., 0])[0]
    std = np.sqrt(channels.variance[i, j, :4])
    generator = np.random.default_rng(0)
    noise = std * (generator.standard_normal((20000, 4)) + 1j * generator.standard_normal((20000, 4)))
    found = np.fft.fft(noise, norm="ortho")
    np.testing.assert_allclose(found.real.var(0), (std**2).mean(), rtol=0.05)
    np.testing.assert_allclose(found.imag.var(0), (std**2).mean(), rtol=0.05)


def test_the_wedge_is_cut_in_every_stretch():
    cut = field(delay_channels=6, horizon=20.0, buffer=0.01)
    plain = field(delay_channels=6)
    k = 2 * np.pi * np.fft.fftfreq(N, CELL)
    k_perp = np.hypot(k[:, None], np.abs(k[: N // 2 + 1]))
    for s in range(2):
        part = slice(6 * s, 6 * s + 6)
        kept = np.abs(cut.k_los[part]) > cut.slope[s] * k_perp[..., None] + 0.01
        np.testing.assert_array_equal(cut.mask[..., part], plain.mask[..., part] & kept)
    assert 0 < cut.mask.sum() < plain.mask.sum() and cut.slope[1] > cut.slope[0]


def test_what_cannot_be_observed():
    with pytest.raises(InfieldError, match=r"channels of 5 cells on 12 cells.*\(cells\)"):
        field(channel_cells=5)
    with pytest.raises(InfieldError, match=r"stretches of 5 channels on 12.*\(cells, delay_channels\)"):
        field(delay_channels=5)
    with pytest.raises(InfieldError, match=r"no mode that is measured.*smaller wedge"):
        field(delay_channels=12, horizon=90.0, buffer=9.0)
    with pytest.raises(InfieldError, match="no mode that is measured"):
        field(telescope=hera_like(np.array([[0.0, 0.0], [5000.0, 0.0]])))


def test_layouts_from_a_table(tmp_path):
    (tmp_path / "a.csv").write_text("east_m,north_m\n0,0\n100,-20.5\n")
    assert read_layout(tmp_path / "a.csv").tolist() == [[0, 0], [100, -20.5]]
    (tmp_path / "b.csv").write_text("east_m,north_m\n0,0\n1\n")
    with pytest.raises(InfieldError, match=r"b.csv: found line 3 without"):
        read_layout(tmp_path / "b.csv")
    (tmp_path / "c.csv").write_text("east_m,north_m\n0,0\n")
    with pytest.raises(InfieldError, match="found 1 antennas"):
        read_layout(tmp_path / "c.csv")
    with pytest.raises(InfieldError, match="no such file"):
        read_layout(tmp_path / "d.csv")
