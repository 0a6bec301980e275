"""The measures of calibration against known values, and simulation-based calibration of FAPS."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import norm
from torch import Tensor

from infield.core.grid import Grid
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import GaussianNoise
from infield.physics.operators.registry import build_operator
from infield.posterior.diagnostics.calibration import (
    coverage,
    crps,
    energy_score,
    gaussian_z_scores,
    mean_error,
    predictive_chi_square,
    radial_spectrum,
    rank_uniformity,
    ranks,
    relative_l2,
    sliced_wasserstein,
    spectral_error,
    spread_skill,
    std_ratio,
    tarp_ranks,
    uniformity,
)
from infield.posterior.samplers.faps import FAPS
from infield.priors.gaussian.kernels import Matern
from infield.priors.gaussian.prior import gaussian_prior

LEVELS = (0.5, 0.8, 0.95)


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=rng(seed), dtype=torch.float64)


# distances


def test_sliced_wasserstein_of_a_shift_is_its_root_mean_square():
    x = normal(300, 2, 3)
    shift = torch.tensor([[1.0, -2.0, 0.5], [0.0, 3.0, 1.0]], dtype=torch.float64)
    expected = float(shift.square().mean().sqrt())
    assert sliced_wasserstein(x, x + shift, rng(1), projections=4000) == pytest.approx(expected, rel=0.03)
    assert sliced_wasserstein(x, x[torch.randperm(300, generator=rng(2))], rng(1)) == 0
    assert sliced_wasserstein(x, 2 * x, rng(1)) == pytest.approx(sliced_wasserstein(2 * x, 4 * x, rng(1)) / 2)


def test_sliced_wasserstein_in_one_dimension_is_that_between_quantiles():
    x, y = normal(50, 1), 3 * normal(50, 1, seed=1) + 1
    gap = np.sort(x.numpy()[:, 0]) - np.sort(y.numpy()[:, 0])
    directions = torch.randn((1, 1), generator=rng(4), dtype=torch.float64)
    assert abs(float(directions / directions.norm())) == 1
    assert sliced_wasserstein(x, y, rng(4), projections=8) == pytest.approx(np.sqrt((gap**2).mean()))


def test_std_ratio_and_mean_error_and_relative_error():
    exact = normal(400, 1, 5)
    assert std_ratio(1.1 * exact + 3, exact) == pytest.approx(1.1)
    mean, std = exact.mean(0), exact.std(0)
    assert mean_error(exact, mean, std) == pytest.approx(0, abs=1e-12)
    assert mean_error(exact + 0.3 * std.square().mean().sqrt(), mean, std) == pytest.approx(0.3)
    truth = normal(1, 1, 5, seed=2)
    assert relative_l2(1.25 * truth, truth) == pytest.approx(0.25)


# z-scores


def test_z_scores_are_standard_normal_for_a_right_law_and_large_for_a_wrong_one():
    mean, root = normal(4, seed=1), torch.eye(4, dtype=torch.float64) + 0.5 * normal(4, 4, seed=2)
    covariance = root @ root.mT
    means, covariances = [], []
    for seed in range(200):
        x = mean + normal(500, 4, seed=seed + 10) @ root.mT
        z = gaussian_z_scores(x, mean, covariance)
        means.append(z.mean)
        covariances.append(z.covariance)
    # largest of 4, and of 10, absolute standard normal numbers: medians
    assert np.median(means) == pytest.approx(norm.ppf((1 + 0.5 ** (1 / 4)) / 2), rel=0.1)
    assert np.median(covariances) == pytest.approx(norm.ppf((1 + 0.5 ** (1 / 10)) / 2), rel=0.1)
    x = mean + normal(4000, 4, seed=3) @ root.mT
    assert gaussian_z_scores(x, mean + 0.3 * root[:, 0], covariance).mean > 9
    assert gaussian_z_scores(x, mean, 1.4 * covariance).covariance > 9
    turned = covariance.flip(0).flip(1)
    assert gaussian_z_scores(x, mean, turned).covariance > 9


# ranks and coverage


def test_ranks_count_the_draws_below_the_truth():
    samples = torch.tensor([[0.0, 5.0], [1.0, 6.0], [2.0, 7.0]])
    assert ranks(samples, torch.tensor([1.5, 4.0])).tolist() == [2, 0]
    assert ranks(samples, torch.tensor([9.0, 6.5])).tolist() == [3, 2]


def test_ranks_among_equal_draws_are_uniform_only_with_ties_broken():
    """A field of two values, right posterior: p is known, truth and draws are 1 with probability p."""
    p = torch.rand(4000, generator=rng(0), dtype=torch.float64)
    draws, truth = (torch.rand((n, 4000), generator=rng(n), dtype=torch.float64) < p for n in (19, 1))
    broken = ranks(draws.double(), truth[0].double(), rng(2))
    assert rank_uniformity(broken, 19) > 1e-3
    assert coverage(broken, 19, 0.9, rng(3)) == pytest.approx(0.9, abs=0.02)
    assert rank_uniformity(ranks(draws.double(), truth[0].double()), 19) < 1e-6


@pytest.mark.parametrize("n", [9, 20, 63, 100])
def test_uniform_ranks_pass_at_the_rate_of_chance_and_others_do_not(n):
    p = []
    for seed in range(200):
        p.append(rank_uniformity(torch.randint(0, n + 1, (400,), generator=rng(seed)), n))
    p = np.array(p)
    assert np.isfinite(p).all()
    assert abs((p < 0.1).mean() - 0.1) < 0.08 and abs(p.mean() - 0.5) < 0.1
    u = torch.rand(400, generator=rng(1), dtype=torch.float64)
    too_low = (u**1.5 * (n + 1)).long()
    assert rank_uniformity(too_low, n) < 1e-3
    outer = torch.special.ndtr(1.4 * torch.special.ndtri(u))
    assert rank_uniformity((outer * (n + 1)).long().clamp_max(n), n) < 1e-3


@pytest.mark.parametrize("n", [9, 63])
def test_coverage_is_exactly_the_level_for_uniform_ranks(n):
    rank = torch.randint(0, n + 1, (200_000,), generator=rng(0))
    for level in LEVELS:
        assert coverage(rank, n, level, rng(1)) == pytest.approx(level, abs=0.005)
    assert coverage(torch.zeros(100, dtype=torch.long), 99, 0.9, rng(1)) == 0  # every truth below every draw
    assert coverage(torch.full((100,), 50), 99, 0.1, rng(1)) == 1


# scores


def test_crps_is_the_closed_form_of_a_gaussian():
    truth = torch.tensor([[0.0, 1.0, -2.5]], dtype=torch.float64)
    mean, sd = torch.tensor([[0.5, 1.0, 1.0]], dtype=torch.float64), 1.7
    samples = mean + sd * normal(40_000, 1, 3)
    z = ((truth - mean) / sd).numpy()
    expected = (sd * (z * (2 * norm.cdf(z) - 1) + 2 * norm.pdf(z) - 1 / np.sqrt(np.pi))).mean()
    assert crps(samples, truth) == pytest.approx(expected, rel=0.01)


def test_crps_is_the_fair_estimator_by_brute_force():
    samples, truth = normal(7, 2, 3), normal(2, 3, seed=1)
    pairs = (samples[:, None] - samples[None]).abs().sum((0, 1)) / (7 * 6)
    expected = float(((samples - truth).abs().mean(0) - pairs / 2).mean())
    assert crps(samples, truth) == pytest.approx(expected)
    unfair = float(((samples - truth).abs().mean(0) - pairs * 6 / 7 / 2).mean())
    assert abs(crps(samples, truth) - unfair) > 1e-3


def test_predictive_chi_square_is_one_where_the_predictive_is_right():
    n, data, spread, noise = 20, 4000, 0.5, 0.3
    centre = normal(data, seed=1)
    samples = centre + spread * normal(n, data, seed=2)
    y = centre + spread * normal(data, seed=3) + math.sqrt(noise) * normal(data, seed=4)
    variance = torch.full((data,), noise, dtype=torch.float64)
    assert predictive_chi_square(samples, variance, y) == pytest.approx(1, abs=0.1)
    assert predictive_chi_square(samples, variance / 3, y) > 1.4
    assert predictive_chi_square(centre + 3 * (samples - centre), variance, y) < 0.7
    assert predictive_chi_square(samples + 1, variance, y) > 1.4


def test_energy_score_is_crps_for_one_value_and_prefers_the_right_law():
    samples, truth = normal(40, 1, 1), normal(1, 1, seed=1)
    assert energy_score(samples, truth) == pytest.approx(crps(samples, truth))
    right = np.mean([energy_score(normal(50, 6, seed=s), normal(6, seed=500 + s)) for s in range(200)])
    for factor, shift in ((0.5, 0.0), (2.0, 0.0), (1.0, 0.7)):
        wrong = [energy_score(shift + factor * normal(50, 6, seed=s), normal(6, seed=500 + s)) for s in range(200)]
        assert np.mean(wrong) > right * 1.02


@pytest.mark.parametrize("n", [4, 16, 100])
def test_spread_over_skill_is_one_for_the_right_spread_whatever_the_number_of_draws(n):
    centre = normal(3000, 4, seed=1)
    truth, samples = centre + normal(3000, 4, seed=2), centre[:, None] + normal(3000, n, 4, seed=3)
    assert spread_skill(samples, truth) == pytest.approx(1, abs=0.03)
    uncorrected = float((samples.var(1).mean() / (samples.mean(1) - truth).square().mean()).sqrt())
    assert uncorrected == pytest.approx((n / (n + 1)) ** 0.5, abs=0.03)  # negative control
    narrow = centre[:, None] + 0.5 * (samples - centre[:, None])
    assert spread_skill(narrow, truth) < 0.65
    assert spread_skill(samples[:, :, 0].mT, truth[:, 0]) == pytest.approx(1, abs=0.05)  # one case of 3000 values


# TARP (the table of `peers.md`, section 4, for distances of 64 values)


@pytest.mark.parametrize("values", [2, 64])
def test_ranks_of_distances_are_uniform_for_the_right_law_and_not_for_others(values):
    cases, n = 256, 64
    centre = normal(cases, values, seed=1)
    truth, noise = centre + normal(cases, values, seed=2), normal(cases, n, values, seed=3)
    reference = 2**0.5 * normal(cases, values, seed=4)

    def p(samples: Tensor) -> float:
        rank = tarp_ranks(samples, truth, reference)
        assert rank.shape == (cases,) and 0 <= int(rank.min()) and int(rank.max()) <= n
        return uniformity(rank, n, rng(5))

    assert p(centre[:, None] + noise) > 0.01
    if values == 64:
        for factor in (0.8, 1.25):
            assert p(centre[:, None] + factor * noise) < 1e-4
    assert p(0.0 * centre[:, None] + 2**0.5 * noise) > 0.01  # the prior is calibrated too: TARP alone is not enough


def test_references_that_look_at_the_truth_are_no_test():
    """Negative control: distances from a point beside the truth find every posterior wrong."""
    centre = normal(256, 8, seed=1)
    truth, samples = centre + normal(256, 8, seed=2), centre[:, None] + normal(256, 64, 8, seed=3)
    assert uniformity(tarp_ranks(samples, truth, truth + 0.1), 64, rng(5)) < 1e-6


def test_kolmogorov_p_values_are_uniform_for_uniform_ranks():
    p = np.array([uniformity(torch.randint(0, 10, (300,), generator=rng(s)), 9, rng(s + 999)) for s in range(200)])
    assert abs((p < 0.1).mean() - 0.1) < 0.08 and abs(p.mean() - 0.5) < 0.1
    assert uniformity(torch.randint(0, 9, (300,), generator=rng(1)), 9, rng(2)) < 0.05


# spectrum


@pytest.mark.parametrize("shape", [(32,), (16, 16), (15, 12), (8, 8, 8)])
def test_spectrum_of_white_noise_is_flat_at_its_variance(shape):
    x = 2 * normal(400, 2, *shape)
    k, power = radial_spectrum(x, (0.5,) * len(shape))
    assert k.shape == power.shape[1:] and len(power) == 400 and (k.diff() > 0).all()
    holds = k > 0
    assert holds[1:].all() and float((power.mean(0)[holds] / 4 - 1).abs().max()) < 0.2
    assert float(k.max()) <= 1 / (2 * 0.5) + 1e-12  # at most one cycle in two points


@pytest.mark.parametrize("shape", [(16, 16), (48, 16), (16, 40), (40,)])
def test_the_mean_of_a_field_is_in_no_shell(shape):
    """Where one side is longer, its lowest modes share the first shell with k = 0."""
    x = normal(4, 1, *shape)
    k, power = radial_spectrum(x, (0.5,) * len(shape))
    _, shifted = radial_spectrum(x + 1000, (0.5,) * len(shape))
    assert torch.allclose(power, shifted, rtol=1e-6)
    assert bool(k[0] > 0) == (len(set(shape)) > 1)
    assert not torch.allclose(power, radial_spectrum(2 * x, (0.5,) * len(shape))[1])  # negative control


def test_spectral_error_is_that_of_the_amplitudes():
    x = normal(50, 1, 24, 24)
    same = spectral_error(x, x, (0.5, 0.5))
    assert same.mean == same.largest == 0
    louder = spectral_error(1.1 * x, x, (0.5, 0.5))
    assert louder.mean == pytest.approx(0.21) and louder.largest == pytest.approx(0.21)
    smooth = (x + x.roll(1, -1) + x.roll(1, -2)) / 3  # what is lost, is lost at small scales
    error = spectral_error(smooth, x, (0.5, 0.5))
    assert error.largest > 0.7 and error.mean < error.largest
    assert spectral_error(x, normal(400, 1, 24, 24, seed=1), (0.5, 0.5)).mean < 0.1


def test_a_wave_lies_in_the_shell_of_its_wavenumber():
    n, h, cycles = 64, 0.25, 5
    x = torch.cos(2 * math.pi * cycles * torch.arange(n, dtype=torch.float64) / n).expand(1, 1, n, n)
    k, power = radial_spectrum(x, (h, h))
    expected = cycles / (n * h)
    assert abs(float(k[power[0].argmax()]) - expected) < float(k[1] - k[0])
    assert float(power[0].max()) > 1e3 * float(power[0].sort().values[-3])


# simulation-based calibration (Talts et al. 2018, arXiv 1804.06788)


@pytest.fixture(scope="module")
def simulated() -> tuple[Tensor, Tensor]:
    """500 truths of a Gaussian prior on 16 points, each with 63 draws given 5 noisy data."""
    grid = Grid.regular((16,), 1.0)
    prior = gaussian_prior(Matern(1.5, 0.3), grid, source=Matern(0.5, 0.02)).in_units(10.0, 2.0)
    arrays = {"indices": np.array([0, 3, 4, 9, 14])}
    description = {"name": "points", "arrays": {"indices": "indices"}}
    operator, noise, generator = build_operator(description, arrays, grid, 1), GaussianNoise(0.1), rng(0)
    truths = prior.standardisation.to_units(prior.covariance.sample(500, generator))
    data = noise.sample(operator.A(truths), generator)
    measurement = Measurement(
        y=data[:1], operator=operator, noise=noise, grid=grid, description=description, arrays=arrays
    )
    draws = [FAPS(levels=2)(prior, replace(measurement, y=y[None]), 63, generator).samples for y in data]
    return truths.flatten(1), torch.stack(draws).flatten(2)


def rank_all(draws: Tensor, truths: Tensor) -> Tensor:
    return torch.stack([ranks(x, truth) for x, truth in zip(draws, truths, strict=True)])


def test_simulation_based_calibration_of_faps(simulated):
    truths, draws = simulated
    rank = rank_all(draws, truths)
    for point in (0, 4, 7, 11, 15):  # measured, and not
        assert rank_uniformity(rank[:, point], 63) > 0.01, point
    for level in LEVELS:
        assert abs(coverage(rank, 63, level, rng(1)) - level) < 0.03
    mean_of_field = ranks(draws.mean(2).mT, truths.mean(1))  # a quantity that needs the correlations to be right
    assert rank_uniformity(mean_of_field, 63) > 0.01


@pytest.mark.parametrize("factor", [0.8, 1.4])
def test_a_wrong_spread_is_rejected(simulated, factor):
    truths, draws = simulated
    centre = draws.mean(1, keepdim=True)
    rank = rank_all(centre + factor * (draws - centre), truths)
    assert all(rank_uniformity(rank[:, point], 63) < 0.01 for point in (0, 7, 15))
    assert abs(coverage(rank, 63, 0.8, rng(1)) - 0.8) > 0.03


def test_a_mean_that_is_off_by_a_third_of_a_standard_deviation_is_rejected(simulated):
    truths, draws = simulated
    rank = rank_all(draws + draws.std(1, keepdim=True) / 3, truths)
    assert all(rank_uniformity(rank[:, point], 63) < 0.01 for point in (0, 7, 15))
