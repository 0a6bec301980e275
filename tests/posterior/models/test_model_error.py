"""The law of model error and noise: its covariance in matrices, and why a mean that was estimated widens it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import chi2

from infield.physics.noise.registry import GaussianNoise
from infield.posterior.models.model_error import SHARES, _law, with_model_error


def randn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def matrix(noise, data):
    return noise.apply(torch.eye(data, dtype=torch.float64)).numpy()


@pytest.mark.parametrize("count", [2, 3, 8])
def test_the_covariance_is_that_of_an_error_minus_the_mean_of_the_seen_ones(count):
    """Of errors of covariance C, one more minus the mean of n has (1 + 1 / n) C; the estimate of C is unbiased."""
    errors, D, share = randn(count, 5), torch.linspace(0.5, 1.5, 5, dtype=torch.float64), 0.3
    C = (1 + 1 / count) * np.cov(errors.numpy().T, ddof=1)
    expected = np.diag(D.numpy()) + (1 - share) * C + share * np.diag(np.diag(C))
    np.testing.assert_allclose(matrix(_law(GaussianNoise(D), errors, share), 5), expected, rtol=1e-9, atol=1e-12)


def test_one_more_error_is_as_large_as_the_law_says():
    """From three errors, at many data with errors of their own: the reduced chi-square of a fourth, in the mean."""
    many, D = 100_000, 0.01
    errors = 2 + randn(4, many)  # of a mean that is taken off
    law = _law(GaussianNoise(D), errors[:3], 0.5)
    found = (errors[3] - errors[:3].mean(0)).square().mean()
    assert float(found / (law.variance - D).mean()) == pytest.approx(1, abs=0.02)
    assert float(found) == pytest.approx(4 / 3, abs=0.02)  # not 1, which a mean known for certain would give


def test_what_is_reported_of_errors_that_are_independent():
    """Errors of twice the noise at each datum by itself: all goes to the diagonal, and the ratio is 2.

    A law from 30 of them has the variance 0.25 + (31/30) s^2, 29 s^2 of a chi-square law with 29 degrees of freedom.
    """
    noise, observed = GaussianNoise(0.25), torch.arange(2000) % 4 > 0
    errors = 3 + randn(40, 2000, seed=5)
    expected = chi2(29).expect(lambda q: (0.25 + 31 / 30) / (0.25 + 31 / 30 * q / 29))
    assert 1.03 < expected < 1.06
    for seen in (None, observed):
        found = with_model_error(noise, errors, seen)
        assert found.share == SHARES[-1] == 1.0
        assert found.chi_square == pytest.approx(expected, abs=0.02)
        assert found.ratio == pytest.approx(2, abs=0.03)
    outside = found.noise.variance[~observed]
    torch.testing.assert_close(outside, torch.full_like(outside, 0.25))  # what was not observed has no error


def test_errors_that_are_one_pattern_keep_their_correlation():
    pattern = randn(1, 60, seed=1)
    errors = randn(40, 1, seed=2) * pattern
    found = with_model_error(GaussianNoise(0.01), errors, None)
    assert found.share == SHARES[0]
    R = matrix(found.noise, 60)
    strength = float(errors.std(0).square().sum())
    assert np.linalg.eigvalsh(R)[-1] == pytest.approx(strength * (1 + 1 / 40), rel=0.01)
