"""Whether k-space is centred and of distinguishable coils, and how maps fit: cases whose answers are known."""

from __future__ import annotations

import numpy as np
import pytest
from examples.kspace_examples import white

from infield.core.errors import InfieldError
from infield.datasets.mri.kspace import KSpace, fourier
from infield.datasets.mri.plausible import (
    Fit,
    check_lines,
    check_maps,
    fit_of_maps,
    line_energy,
    off_centre,
    recentred,
    without_dead_coils,
)


def measured(samples: np.ndarray, mask: np.ndarray, **more: np.ndarray) -> KSpace:
    return KSpace(samples=samples, mask=mask, **more)  # type: ignore[arg-type]


def delta(shape: tuple[int, int], ky: int, kx: int, coils: int = 1) -> np.ndarray:
    samples = np.full((coils, *shape), 1e-3, dtype=complex)
    samples[:, ky, kx] = 1.0
    return samples


def test_the_energy_of_lines_by_hand():
    """One line of k-space of energy 16 a sample among 19 of 1: 20 * 16 / 35 times the mean."""
    samples = np.ones((1, 20, 18), dtype=complex)
    samples[:, 10] = 4.0
    found = line_energy(measured(samples, np.ones((20, 18), dtype=bool)))
    assert found == {"ky": pytest.approx(16 * 20 / 35), "kx": pytest.approx(1.0)}
    mask = np.ones((20, 18), dtype=bool)
    mask[:4] = False  # sixteen measured lines are judged, fifteen are not
    assert line_energy(measured(samples, mask))["ky"] == pytest.approx(16 * 16 / 31)
    mask[4] = False
    assert set(line_energy(measured(samples, mask))) == {"kx"}
    two = np.concatenate([samples, 3j * samples])  # energies of coils add up
    assert line_energy(measured(two, np.ones((20, 18), dtype=bool))) == pytest.approx(found)
    with pytest.raises(InfieldError, match="lines along kx of which the strongest has 1 times"):
        check_lines(measured(samples, np.ones((20, 18), dtype=bool)))


@pytest.mark.parametrize("shape", [(16, 20), (17, 21)])
def test_how_far_the_peak_lies_off_the_middle(shape):
    mask = np.ones(shape, dtype=bool)
    for ky, kx in ((0, 0), (3, -4), (-2, 1)):
        kspace = measured(delta(shape, shape[0] // 2 + ky, shape[1] // 2 + kx), mask)
        assert off_centre(kspace) == (ky, kx)


def test_one_odd_sample_is_no_peak():
    samples = np.zeros((1, 16, 16), dtype=complex)
    samples[:, 7:10, 7:10] = 1.0
    samples[:, 3, 3] = 1.8  # of power 3.2; smoothed 4 * 3.2 beside 16
    assert off_centre(measured(samples, np.ones((16, 16), dtype=bool))) == (0, 0)


@pytest.mark.parametrize("shift", [(3, -4), (-4, 3), (0, 3), (-3, 0)])
def test_kspace_is_moved_back_and_what_falls_outside_is_not_measured(shift):
    shape = (16, 20)
    rng = np.random.default_rng(0)
    samples = 1e-3 * white(rng, 2, *shape)
    samples[:, 8 + shift[0], 10 + shift[1]] = 5.0
    kspace = measured(samples, np.ones(shape, dtype=bool), calibration=2 * samples)
    moved, words = recentred(kspace)
    assert words is not None and f"by {shift[0]} lines along ky and {shift[1]} along kx" in words
    assert moved.history[-1] == words and moved.calibration is not None
    for i in range(16):
        for j in range(20):
            there = i + shift[0], j + shift[1]
            inside = 0 <= there[0] < 16 and 0 <= there[1] < 20
            assert moved.mask[i, j] == inside
            expected = samples[:, there[0], there[1]] if inside else 0
            assert (moved.samples[:, i, j] == expected).all() and (moved.calibration[:, i, j] == 2 * expected).all()


@pytest.mark.parametrize("shift", [(2, -2), (5, 0), (0, 6)])
def test_kspace_near_its_middle_or_far_off_stays(shift):
    """Two lines are the image's phase; more than a quarter of 16 or 20 lines was never centred."""
    kspace = measured(delta((16, 20), 8 + shift[0], 10 + shift[1]), np.ones((16, 20), dtype=bool))
    assert recentred(kspace) == (kspace, None)
    assert recentred(measured(delta((16, 20), 8 + 4, 10 - 5), kspace.mask))[1] is not None  # just a quarter


def test_empty_coils_are_dropped_and_copies_refused():
    rng = np.random.default_rng(1)
    samples = white(rng, 3, 8, 8)
    samples[1] = 0
    psi = np.diag([1.0, 2.0, 3.0]).astype(complex)
    kspace = measured(samples, np.ones((8, 8), dtype=bool), noise_covariance=psi, coil_maps=samples + 1)
    kept = without_dead_coils(kspace)
    assert np.array_equal(kept.samples, samples[[0, 2]]) and kept.history == ("empty coils dropped: 1",)
    assert kept.noise_covariance is not None and kept.noise_covariance.diagonal().tolist() == [1, 3]
    assert kept.coil_maps is not None and np.array_equal(kept.coil_maps, samples[[0, 2]] + 1)
    samples[1] = 2 * samples[0] - 1j * samples[2]
    with pytest.raises(InfieldError, match="3 coils of which one is a combination of others"):
        without_dead_coils(measured(samples, kspace.mask))
    assert without_dead_coils(measured(samples[:1], kspace.mask)).samples.shape == (1, 8, 8)


def block(images: np.ndarray, psi: np.ndarray | None = None, width: int = 8, region: np.ndarray | None = None) -> Fit:
    """How constant maps fit images of coils `(coil, y, x)` that are as smooth as the block."""
    maps = np.ones((2, *images.shape[1:]), dtype=complex) / np.sqrt(2)
    maps = maps if region is None else maps * region
    found = fit_of_maps(fourier(images), maps, width, np.zeros((2, 2)) if psi is None else psi)
    assert found is not None
    return found


def test_maps_that_fit_and_maps_that_do_not():
    """Coils (1, 1) X by maps (1, 1) / sqrt 2: nothing is left. Coils (1, -1) X: all; (1, 0) X: a half."""
    shape = (24, 20)
    y, x = np.mgrid[: shape[0], : shape[1]]
    X = 1 + 0.5 * np.cos(2 * np.pi * y / shape[0]) + 0.2j * np.sin(2 * np.pi * x / shape[1])
    for factors, left in (((1, 1), 0.0), ((1, -1), 1.0), ((1, 0), 0.5), ((2, 1), 0.1)):
        fit = block(np.stack([f * X for f in factors]))
        assert fit.unexplained == pytest.approx(left, abs=1e-12)
        assert fit.outside == pytest.approx(0, abs=1e-12) and fit.visible_outside == 0
    half = np.ones(shape)
    half[:, shape[1] // 2 :] = 0
    even = block(np.stack([np.ones(shape), np.ones(shape)]), region=half)
    assert even.outside == pytest.approx(0.5) and even.visible_outside == pytest.approx(0.5)


def test_the_noise_is_taken_off():
    """Noise alone on top of an image that fits: what it leaves is one coil's share of two."""
    shape, level = (24, 20), 0.3
    rng = np.random.default_rng(2)
    psi = level**2 * np.eye(2)
    found = []
    for _ in range(200):
        noise = level * white(rng, 2, *shape)
        scale = float(np.mean(np.abs(noise) ** 2)) / level**2  # of `white`: 1 or 2 a complex number
        assert abs(scale - 1) < 0.2
        found.append(block(2 + np.stack([np.zeros(shape)] * 2) + noise, psi).unexplained)
    without = block(2 + noise).unexplained
    assert np.mean(found) < 0.2 * without


def test_too_little_to_judge():
    images = np.ones((2, 16, 16), dtype=complex)
    maps = np.ones((2, 16, 16), dtype=complex) / np.sqrt(2)
    assert fit_of_maps(fourier(images), maps, 5, np.zeros((2, 2))) is None
    assert fit_of_maps(fourier(images), maps, 6, np.zeros((2, 2))) is not None
    assert fit_of_maps(fourier(images)[:1], maps[:1], 8, np.zeros((1, 1))) is None
    assert fit_of_maps(fourier(images), maps, 8, 1e3 * np.eye(2)) is None  # noise alone


@pytest.mark.parametrize(
    ("fit", "warnings"),
    [
        (Fit(0.05, 0.05, 0.25), 0),
        (Fit(0.06, 0.0, 0.0), 1),
        (Fit(0.0, 0.06, 0.0), 1),
        (Fit(0.0, 0.0, 0.26), 1),
        (Fit(0.15, 0.06, 0.0), 2),
        (None, 0),
    ],
)
def test_where_maps_are_doubted(fit, warnings):
    assert len(check_maps(fit, "maps")) == warnings


def test_where_maps_are_refused():
    with pytest.raises(InfieldError, match="maps that leave 16% of the calibration block's energy unexplained"):
        check_maps(Fit(0.16, 0.0, 0.0), "maps")
