"""Errors that operators declare: derivatives of their data, and a test that is exact where nothing is wrong."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Generator

from infield.core.grid import Grid
from infield.physics.measurement import Measurement
from infield.physics.noise.gaussian import GaussianNoise
from infield.physics.operators.registry import build_operator
from infield.posterior.calibration.evidence import whitened_data
from infield.posterior.calibration.operator_errors import AMPLITUDE, _smallest, exceeded, operator_test
from infield.priors.gaussian.kernels import Matern
from infield.priors.gaussian.prior import gaussian_prior

GRID = Grid.regular((8, 8), periodic=True)
COILS, SIDE = 2, 8


def blur(width, shape=(8, 8), periodic=True):
    grid = Grid.regular(shape, periodic=periodic)
    parameters = {"gaussian_width": width, "boundary": "periodic" if periodic else "zero"}
    return build_operator({"name": "convolution", "parameters": parameters}, {}, grid, 1)


def coils(maps):
    grid = Grid.regular((SIDE, SIDE), periodic=True)
    mask = torch.rand((SIDE, SIDE), generator=Generator().manual_seed(0)).numpy() < 0.6
    description = {"name": "multicoil-mri", "arrays": {"coil_maps": "maps", "mask": "mask"}}
    return build_operator(description, {"maps": maps, "mask": mask}, grid, 2)


@pytest.mark.parametrize(("shape", "periodic"), [((8, 8), True), ((7, 9), False), ((12,), True)])
def test_a_blur_declares_its_derivative_by_the_logarithm_of_the_width(shape, periodic):
    x = torch.randn((1, 1, *shape), generator=Generator().manual_seed(1), dtype=torch.float64)
    (change,) = blur(0.15, shape, periodic).perturbations(x)["the width of the blur"][None]
    step = 1e-4
    expected = (blur(0.15 * (1 + step), shape, periodic).A(x) - blur(0.15 * (1 - step), shape, periodic).A(x)) / (
        2 * step
    )
    tolerance = 0.02 if periodic else 0.2  # a kernel that is cut is not quite Gaussian
    assert float((change - expected).norm() / expected.norm()) < tolerance
    assert float((change + expected).norm() / expected.norm()) > 1  # negative control


def test_coil_maps_declare_smooth_relative_errors():
    generator = Generator().manual_seed(2)
    maps = torch.randn((COILS, SIDE, SIDE), generator=generator, dtype=torch.complex128)
    x = torch.randn((1, 2, SIDE, SIDE), generator=generator, dtype=torch.float64)
    changes = coils(maps.numpy()).perturbations(x)["coil maps"]
    order, a = 4, torch.randn((COILS, 2, 4, 4), generator=generator, dtype=torch.float64)
    assert len(changes) == COILS * 2 * order**2
    i = torch.arange(SIDE, dtype=torch.float64) + 0.5
    waves = torch.stack([torch.cos(math.pi * m * i / SIDE) * (2**0.5 if m else 1) for m in range(order)])
    smooth = torch.einsum("ctpq,py,qx->ctyx", a, waves, waves) / (2**0.5 * order)
    error = torch.complex(smooth[:, 0], smooth[:, 1])
    expected = coils((maps * (1 + error)).numpy()).A(x) - coils(maps.numpy()).A(x)
    found = torch.einsum("k,k...->...", a.flatten(1).flatten(), changes)  # coil by coil, real before imaginary
    assert torch.allclose(found, expected[0], atol=1e-10)
    many = [float((e.abs() ** 2).mean()) for e in error]
    assert 0.3 < np.mean(many) < 3  # unit amplitudes are a relative error of about one


def p_of(real, stated, seed, channels=1):
    prior, generator = (
        gaussian_prior(Matern(nu=1.5, length=0.3), GRID, channels=channels),
        Generator().manual_seed(seed),
    )
    noise = GaussianNoise(torch.tensor(0.0025, dtype=torch.float64))
    y = noise.sample(real.A(prior.covariance.sample(1, generator)), generator)
    y = y if stated.observed is None else torch.where(stated.observed, y, 0.0)
    measurement = Measurement(y=y, operator=stated, noise=noise, grid=GRID, channels=("a", "b")[:channels])
    return operator_test(whitened_data(prior, measurement), prior, measurement, generator)


def test_p_is_uniform_where_the_operator_is_right_and_small_where_it_is_wrong():
    """Of a blur and of coils; wrong is one coil by a fifth on one side."""
    maps = np.stack([np.ones((SIDE, SIDE)), 1j * np.linspace(0.5, 1.5, SIDE)[:, None] * np.ones(SIDE)])
    off = maps * np.stack([np.ones((SIDE, SIDE)), np.linspace(0.8, 1.2, SIDE) * np.ones((SIDE, 1))])
    right = [p_of(blur(0.15), blur(0.15), seed) for seed in range(1000, 1030)]
    right += [p_of(coils(maps), coils(maps), seed, 2) for seed in range(1000, 1020)]
    assert stats.kstest([r.p for r in right], "uniform").pvalue > 0.01
    wrong = [p_of(coils(off), coils(maps), seed, 2) for seed in range(8)]
    assert sum(w.p < 0.005 for w in wrong) >= 7 and wrong[0].kind == "coil maps", wrong
    assert 0.005 < right[-1].seen["coil maps"] < 0.3


def test_an_operator_that_declares_no_errors_is_not_tested():
    operator = build_operator({"name": "mask", "arrays": {"mask": "m"}}, {"m": np.ones((8, 8), bool)}, GRID, 1)
    assert p_of(operator, operator, 0) is None


def test_the_tail_of_a_weighted_sum_of_squares():
    """Of equal weights, chi^2, central or not; of others, by the closed form for pairs and by simulation."""
    for n, p in ((1, 0.3), (2, 0.005), (5, 0.9), (64, 1e-4)):
        ones, q = torch.ones(n, dtype=torch.float64), float(stats.chi2.isf(p, n))
        assert exceeded(2 * ones, 2 * q) == pytest.approx(p, abs=2e-6)
        assert exceeded(ones, q, 3 * ones) == pytest.approx(stats.ncx2.sf(q, n, 3 * n), abs=2e-6)
    for n, q in ((2, 60.0), (5, 40.0), (64, 400.0), (64, 5000.0)):  # far out
        ones = torch.ones(n, dtype=torch.float64)
        assert exceeded(ones, q) == pytest.approx(stats.chi2.sf(q, n), rel=0.08)
        assert exceeded(ones, q, 0.1 * ones) == pytest.approx(stats.ncx2.sf(q, n, 0.1 * n), rel=0.08, abs=1e-15)
    a, b, q = 3.0, 1.0, 7.0  # squares in pairs: a mixture of exponentials
    pairs = torch.tensor([a, a, b, b], dtype=torch.float64)
    expected = (a * math.exp(-q / (2 * a)) - b * math.exp(-q / (2 * b))) / (a - b)
    assert exceeded(pairs, q) == pytest.approx(expected, abs=2e-6)
    weights, means = np.array([3.0, 1.0, 0.2]), np.array([0.0, 2.0, 1.0])
    x = np.random.default_rng(0).normal(means, 1.0, (200_000, 3))
    found = exceeded(torch.from_numpy(weights), 12.0, torch.from_numpy(means**2))
    share = float((x**2 @ weights > 12.0).mean())
    assert abs(found - share) < 4 * (share / 200_000) ** 0.5
    assert abs(exceeded(torch.from_numpy(weights), 12.0) - share) > 0.02  # control: without the means


def test_smallest_errors_are_found_as_often_as_is_said():
    """Power of the test at the error that it names, by simulation of scores z_i ~ N(e mu_i^(1/2), 1)."""
    mu, generator = torch.tensor([4000.0, 900.0, 30.0, 1.0], dtype=torch.float64), Generator().manual_seed(3)
    weights = AMPLITUDE**2 * mu / (1 + AMPLITUDE**2 * mu)
    error = _smallest(weights, mu, 0.005)
    limit = float(np.quantile([float(q) for q in _sums(weights, torch.zeros(4), generator)], 0.995))
    power = float((_sums(weights, error * mu.sqrt(), generator) > limit).double().mean())
    assert abs(power - 0.8) < 0.03
    half = float((_sums(weights, 0.5 * error * mu.sqrt(), generator) > limit).double().mean())
    assert half < 0.5  # control: half of it is found less often
    assert _smallest(weights * 1e-4, mu * 1e-4, 0.005) is None


def _sums(weights, mean, generator):
    z = mean + torch.randn((40_000, len(weights)), generator=generator, dtype=torch.float64)
    return (weights * z.square()).sum(1)
