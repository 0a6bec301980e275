"""Gaussian lightcones: the mean and the spectra of the law they were fitted to, at parameters without a cone."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from infield import InfieldError
from infield.priors.cm21.gaussian import LocalRegression, fit_local_regression, gaussian_lightcones

N, DEPTH, CONES = 8, 12, 160
Z = torch.linspace(0, 1, DEPTH, dtype=torch.float64)


def law(theta):
    """Mean and amplitude in mK along the line of sight, and level of the sky mean's scatter, at two parameters."""
    a, b = theta
    return 10 * a * Z - 5 * b * Z**2, 1 + 2 * a * (1 - Z) + b * Z


def smooth(generator, n):
    """Unit Gaussian fields `(n, x, y, los)`: red across, correlated between slices, of sky mean 0."""
    white = torch.randn(n, N, N, DEPTH, generator=generator, dtype=torch.float64)
    kx = torch.fft.fftfreq(N, 1 / N, dtype=torch.float64)
    k = torch.hypot(kx[:, None], kx)
    spectrum = torch.where(k > 0, k.clamp(min=1) ** -1.0, torch.zeros_like(k))
    modes = torch.fft.fft2(white, dim=(1, 2)) * spectrum[..., None]
    fields = torch.fft.ifft2(modes, dim=(1, 2)).real / spectrum.square().mean().sqrt()
    return (fields + 0.8 * fields.roll(1, 3)) / (1 + 0.64) ** 0.5


def cones_at(thetas, seed):
    generator = torch.Generator().manual_seed(seed)
    levels = 0.7 * torch.randn(len(thetas), 1, 1, 1, generator=generator, dtype=torch.float64)
    means, amplitudes = (torch.stack(part)[:, None, None] for part in zip(*map(law, thetas), strict=True))
    return means + amplitudes * smooth(generator, len(thetas)) + levels


@pytest.fixture(scope="module")
def training():
    thetas = torch.rand(CONES, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return thetas, cones_at(thetas, 1)


def power(cones):
    """Mean power of each ring of wavenumbers across, and correlation of neighbours, `(rings, los)` and `(los - 1,)`."""
    modes = torch.fft.fft2(cones - cones.mean((1, 2), keepdim=True), dim=(1, 2), norm="ortho")
    products = (modes[..., 1:] * modes[..., :-1].conj()).real.mean((0, 1, 2))
    variances = modes.abs().square().mean((0, 1, 2))
    kx = torch.fft.fftfreq(N, 1 / N, dtype=torch.float64)
    ring = torch.hypot(kx[:, None], kx).round()
    rings = [modes.abs().square().mean(0)[ring == number].mean(0) for number in range(1, int(ring.max()) + 1)]
    return torch.stack(rings), products / (variances[1:] * variances[:-1]).sqrt()


def draws(training, theta, n=300):
    thetas, cones = training
    means = cones.mean((1, 2))
    found = gaussian_lightcones(fit_local_regression(thetas, means), means, lambda i: cones[i], theta)
    generator = torch.Generator().manual_seed(2)
    return found.draw(lambda shape: torch.randn(n, *shape, generator=generator, dtype=torch.float64))


def test_mean_and_spectra_are_those_of_the_law_where_no_cone_is(training):
    theta = torch.tensor([0.42, 0.61], dtype=torch.float64)
    drawn, truth = draws(training, theta), cones_at(theta.expand(300, 2), 3)
    mean, _ = law(theta)
    assert (drawn.mean((0, 1, 2)) - mean).abs().max() < 0.4
    other, _ = law(torch.tensor([0.8, 0.2]))
    assert (drawn.mean((0, 1, 2)) - other).abs().max() > 3
    (found, neighbours), (expected, true_neighbours) = power(drawn), power(truth)
    error = (found / expected - 1)[:4]  # whole rings, not the corners with few modes, and their evolution
    assert error.abs().mean() < 0.1 and error.mean().abs() < 0.05 and error.abs().max() < 0.35
    assert (neighbours - true_neighbours).abs().mean() < 0.04 and true_neighbours.min() > 0.4
    far, _ = power(draws(training, torch.tensor([0.8, 0.2], dtype=torch.float64)))
    assert (far / expected - 1)[:4].abs().mean() > 0.25
    spread = drawn.mean((1, 2)).std(0)  # the sky mean's between cones: that of the levels
    assert (spread / 0.7 - 1).abs().max() < 0.35, spread
    assert not (drawn == 0).any()  # no atom


def test_weights_are_exact_for_a_plane_also_at_a_corner(training):
    thetas, _ = training
    regression = LocalRegression(thetas, 24)
    plane = 3 + thetas @ torch.tensor([2.0, -5.0], dtype=torch.float64)
    for theta in ([0.5, 0.5], [0.0, 1.0]):
        point = torch.tensor(theta, dtype=torch.float64)
        weights = regression.weights(point)
        assert weights.sum() == pytest.approx(1) and int((weights != 0).sum()) == 24
        assert float(weights @ plane) == pytest.approx(3 + 2 * theta[0] - 5 * theta[1])
    predicted, _ = regression.left_out(plane, 7)
    assert float(predicted) == pytest.approx(float(plane[7])) and regression.weights(thetas[7], without=7)[7] == 0


def test_the_number_of_cones_follows_the_noise():
    """Few where the signal bends, many where it is a plane under noise."""
    generator = torch.Generator().manual_seed(0)
    thetas = torch.rand(120, 2, generator=generator, dtype=torch.float64)
    bent = torch.sin(9 * thetas[:, :1]) * torch.ones(4)
    noisy = thetas[:, :1] + torch.randn(120, 4, generator=generator, dtype=torch.float64)
    assert fit_local_regression(thetas, bent).nearest < fit_local_regression(thetas, noisy).nearest


def test_parameters_that_do_not_vary_and_too_few_cones(training):
    _, cones = training
    means = cones.mean((1, 2))
    same = fit_local_regression(torch.ones(CONES, 2, dtype=torch.float64), means)
    torch.testing.assert_close(same.weights(torch.ones(2, dtype=torch.float64)).sum(), torch.tensor(1.0).double())
    with pytest.raises(InfieldError, match="found 4 cones of training, expected at least 5"):
        fit_local_regression(torch.rand(4, 2, dtype=torch.float64), means[:4])


def test_weights_are_those_of_a_local_regression_with_the_tricube_kernel(training):
    """(X^T W X)^{-1} X^T W at the point, W = (1 - u^3)^3 (Cleveland 1979, lowess), u = 1 just beyond the K-th cone."""
    thetas, point, nearest = training[0].numpy(), np.array([0.35, 0.6]), 24
    away = (thetas - point) / (thetas.max(0) - thetas.min(0))
    distance = np.linalg.norm(away, axis=1)
    u = distance / (1.001 * np.sort(distance)[nearest - 1])
    X = np.column_stack([np.ones(CONES), away])

    def regression(power):
        W = np.diag(np.where(u < 1, np.clip(1 - u**3, 0, None) ** power, 0))
        return np.linalg.solve(X.T @ W @ X, X.T @ W)[0]

    found = LocalRegression(training[0], nearest).weights(torch.tensor(point)).numpy()
    np.testing.assert_allclose(found, regression(3), rtol=1e-5, atol=1e-8)
    assert np.abs(found - regression(2)).max() > 1e-3  # negative control: another kernel
