"""What each datum contributes, beside finite differences of exact posteriors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Generator, Tensor

from infield import InfieldError
from infield.core.grid import Grid
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import GaussianNoise, PoissonNoise
from infield.physics.operators.registry import build_operator
from infield.posterior.diagnostics.leave_one_out import fit_pareto, leave_one_out, smoothed
from infield.posterior.diagnostics.sensitivity import (
    exact_gain,
    exact_leave_one_out,
    noiseless_data,
    scores,
    sensitivity,
    value_of_data,
)
from infield.posterior.inference.linear_gaussian import LinearGaussianData
from infield.posterior.samplers.exact import Exact
from infield.priors.gaussian.kernels import Matern
from infield.priors.gaussian.mixture import MixturePrior
from infield.priors.gaussian.prior import GaussianPrior, gaussian_prior

GRID = Grid.regular((16,), 1.0)
INDEX = np.array([1, 4, 6, 9, 14])
W = torch.full((1, 16), 1 / 16, dtype=torch.float64)
VARIANCE = 0.04


def rng(seed: int) -> Generator:
    return Generator().manual_seed(seed)


def measured(y: Tensor, noise: GaussianNoise | PoissonNoise | None = None) -> Measurement:
    description = {"name": "points", "arrays": {"indices": "indices"}}
    arrays = {"indices": INDEX}
    return Measurement(
        y[None, None], operator=build_operator(description, arrays, GRID, 1), noise=noise or GaussianNoise(VARIANCE),
        grid=GRID, description=description, arrays=arrays,
    )  # fmt: skip


def gaussian(length: float = 0.3, level: float = 0.0) -> GaussianPrior:
    prior = gaussian_prior(Matern(1.5, length), GRID, source=Matern(0.5, 0.1))
    return replace(prior, mean=torch.full((1, 16), level, dtype=torch.float64))


Y = torch.tensor([0.3, -0.4, 0.8, 1.1, -0.2], dtype=torch.float64)


def mixture_mean(prior: MixturePrior, y: Tensor) -> float:
    """E[f | y], by the weights and the means of the components."""
    measurement = measured(y)
    logs, means = [], []
    for part in prior.components:
        data = LinearGaussianData(measurement.pullback(part.standardisation), part.covariance.modes)
        logs.append(data.log_evidence(part.mean, part.covariance))
        means.append(float((data.mean(part.mean[None], part.covariance)[0] * W).sum()))
    weights = torch.softmax(torch.stack(logs) + prior.weights.log(), 0)
    return float((weights * torch.tensor(means, dtype=torch.float64)).sum())


def test_the_exact_gain_is_the_derivative_and_freedom_its_trace():
    prior, measurement = gaussian(level=0.4).in_units(2.0, 3.0), measured(Y)
    found = exact_gain(prior, measurement, W)
    data = LinearGaussianData(measurement.pullback(prior.standardisation), prior.covariance.modes)

    def mean(y: Tensor) -> Tensor:
        data = LinearGaussianData(measured(y).pullback(prior.standardisation), prior.covariance.modes)
        return prior.standardisation.to_units(data.mean(prior.mean[None], prior.covariance))[0]

    unit = torch.eye(5, dtype=torch.float64)
    slopes = torch.stack([mean(Y + e) - mean(Y) for e in unit])  # affine in y: differences are derivatives
    torch.testing.assert_close(found.value.flatten(), (slopes * W).flatten(1).sum(1), rtol=0, atol=1e-10)
    freedom = sum(float(slopes[i].flatten()[int(INDEX[i])]) for i in range(5))
    assert found.degrees_of_freedom == pytest.approx(freedom, abs=1e-9)
    assert data.dense


def test_draws_of_a_mixture_give_the_derivative_within_their_errors():
    prior = MixturePrior((gaussian(0.1, -0.5), gaussian(0.5, 0.5)), torch.tensor([0.5, 0.5], dtype=torch.float64))
    measurement, h = measured(Y), 1e-4
    unit = torch.eye(5, dtype=torch.float64)
    exact = torch.tensor([(mixture_mean(prior, Y + h * e) - mixture_mean(prior, Y - h * e)) / (2 * h) for e in unit])
    inside, wrong = [], []
    for seed in range(40):
        draws = Exact()(prior, measurement, 1024, rng(seed)).samples
        f = (draws * W).flatten(1).sum(1)
        found = sensitivity(f, scores(measurement, noiseless_data(measurement, draws)))
        z = (found.value.flatten() - exact) / found.error.flatten()
        inside.append(float((z.abs() < 1.645).double().mean()))
        wrong.append(float(((2 * found.value.flatten() - exact) / found.error.flatten()).abs().median()))
    assert 0.85 < np.mean(inside) < 0.95
    assert np.mean(wrong) > 2


def test_counts_have_the_derivative_of_the_gamma_posterior():
    """One rate, a Gamma prior (2, 1) and a count of 7: E[rate | y] = (2 + y) / 2, of slope 1/2."""
    rate = torch.distributions.Gamma(9.0, 2.0)
    torch.manual_seed(0)
    draws = rate.sample((4000,)).double()
    measurement = measured(torch.full((5,), 7.0, dtype=torch.float64), PoissonNoise(1.0))
    z = draws[:, None, None].expand(-1, 1, 5)
    found = sensitivity(draws, scores(measurement, z))
    assert float(((found.value - 0.5) / found.error).abs().max()) < 4


def test_leave_one_out_by_weights_is_the_exact_one_and_names_a_wrong_datum():
    prior = gaussian()
    y = prior.covariance.sample(1, rng(3)).flatten()[INDEX] + 0.2 * torch.randn(5, generator=rng(4)).double()
    for bad, expected in ((0.0, []), (3.0, [2])):
        measurement = measured(y + bad * torch.eye(5, dtype=torch.float64)[2])
        exact = exact_leave_one_out(prior, measurement)
        data, mean, sd = measurement.y[0, 0], exact.mean, exact.sd
        others = [0, 1, 3, 4]
        K = prior.covariance.apply(torch.eye(16, dtype=torch.float64)[:, None]).flatten(1)[INDEX][:, INDEX]
        Q = K[others][:, others] + VARIANCE * torch.eye(4, dtype=torch.float64)
        weights = torch.linalg.solve(Q, K[others, 2])
        torch.testing.assert_close(mean[2], weights @ data[others], rtol=0, atol=1e-9)
        torch.testing.assert_close(sd[2] ** 2, K[2, 2] + VARIANCE - weights @ K[others, 2], rtol=0, atol=1e-9)
        assert exact.disagreeing().tolist() == expected
        assert int((exact.z.abs() > 2.6).sum()) > len(expected) or not expected  # its neighbours stand out with it


def test_leave_one_out_by_weights_is_the_exact_one():
    prior, broad = gaussian(), 1.0
    measurement = measured(Y, GaussianNoise(broad))
    exact = exact_leave_one_out(prior, measurement)
    y, mean, sd = measurement.y[0, 0], exact.mean, exact.sd
    z = noiseless_data(measurement, Exact()(prior, measurement, 4000, rng(1)).samples)[:, 0]
    found = leave_one_out(y, z, -0.5 * (y - z).square() / broad, torch.full_like(z, broad))
    assert found.reliable.all()
    torch.testing.assert_close(found.mean, mean, rtol=0, atol=0.08)
    torch.testing.assert_close(found.sd, sd, rtol=0.08, atol=0)
    assert float((z.mean(0) - mean).abs().max()) > 0.16  # what the posterior given all data predicts is another thing
    sharp = leave_one_out(y, z, -50 * (y - z).square(), torch.full_like(z, 0.01))
    assert not sharp.reliable.all()


def test_the_pareto_fit_finds_the_shape():
    for k in (0.2, 0.5, 0.9):
        x = torch.from_numpy(np.sort(stats.genpareto(k, scale=2.0).rvs((4000, 3), random_state=1), axis=0))
        shape, sigma = fit_pareto(x)
        assert float((shape - k).abs().max()) < 0.12 and float((sigma - 2).abs().max()) < 0.2
    weights, shape = smoothed(torch.randn(500, 2, generator=rng(0)).double())
    torch.testing.assert_close(weights.exp().sum(0), torch.ones(2, dtype=torch.float64))
    assert float(shape.max()) < 0.7


def test_a_further_datum_removes_what_the_gaussian_formula_gives():
    prior = gaussian()
    draws = prior.covariance.sample(4000, rng(0))
    f = (draws * W).flatten(1).sum(1)
    found, error = value_of_data(f, draws, 0.1)
    K = prior.covariance.apply(torch.eye(16, dtype=torch.float64)[:, None]).flatten(1)
    w = W.flatten()
    exact = (K @ w).square() / ((w @ K @ w) * (K.diagonal() + 0.1))
    assert float(((found.flatten() - exact) / error.flatten()).abs().max()) < 4.5


def test_few_draws_are_refused():
    with pytest.raises(InfieldError, match="found 20 draws, expected at least 32"):
        sensitivity(torch.zeros(20), torch.zeros(20, 3))
