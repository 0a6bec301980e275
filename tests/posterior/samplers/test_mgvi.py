"""MGVI: exact for linear data with Gaussian noise, near importance sampling for counts, blind to company."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from infield import InfieldError
from infield.core.grid import Grid
from infield.core.randomness import SampleStreams
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import GaussianNoise, PoissonNoise
from infield.physics.operators.registry import build_operator
from infield.posterior.samplers.exact import Exact
from infield.posterior.samplers.mgvi import MGVI
from infield.priors.gaussian.kernels import Matern
from infield.priors.gaussian.matern import matern_matrix
from infield.priors.gaussian.prior import GaussianPrior, gaussian_prior

POINTS, MEAN, SD, LAW = 6, 0.4, 0.9, Matern(1.5, 0.4)
GRID = Grid.regular((POINTS,), 1.0)


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def prior() -> GaussianPrior:
    return gaussian_prior(LAW, GRID, torus=LAW.embed(GRID).window.torus).in_units(MEAN, SD)


def counts(seed: int = 2) -> Measurement:
    operator = build_operator({"name": "exp"}, {}, GRID, 1)
    truth = prior().standardisation.to_units(prior().covariance.sample(1, rng(seed)))
    y = torch.poisson(operator.A(truth), generator=rng(seed + 1))
    return Measurement(y=y, operator=operator, noise=PoissonNoise(1.0), grid=GRID, truth=truth)


def by_weights(measurement: Measurement) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of every value of the posterior: 400,000 draws of the prior, weighted."""
    K = matern_matrix(GRID.points(), nu=1.5, length=0.4, variance=SD**2)
    w = torch.randn((400_000, POINTS), generator=rng(9), dtype=torch.float64)
    u = MEAN + w @ torch.linalg.cholesky(K).mT
    y = measurement.y[0, 0]
    weight = torch.softmax((y * u - u.exp()).sum(1), 0)
    assert 1 / float(weight.square().sum()) > 8_000
    mean = weight @ u
    return mean, (weight @ (u - mean).square()).sqrt()


def drawn(sampler: MGVI, measurement: Measurement, n: int) -> Tensor:
    return sampler(prior(), measurement, n, SampleStreams(0, range(n))).samples[:, 0]


def test_near_the_posterior_of_counts():
    """Means within a twelfth of a posterior standard deviation, where Laplace's method errs by more; standard
    deviations within a tenth."""
    measurement = counts()
    mean, sd = by_weights(measurement)
    n = 4000
    mgvi, laplace = (drawn(MGVI(iterations=iterations, pairs=64), measurement, n) for iterations in (4, 0))
    error, of_laplace = ((draws.mean(0) - mean) / sd for draws in (mgvi, laplace))
    assert float(error.abs().max()) < 1 / 12 + 4 / n**0.5
    assert float(of_laplace.mean()) > 0.1 > float(error.mean().abs())  # the mode of a skewed law lies beside its mean
    torch.testing.assert_close(mgvi.std(0), sd, rtol=0.12, atol=0)
    assert float(((drawn(MGVI(), counts(5), n).mean(0) - mean) / sd).abs().max()) > 0.5  # negative control


def test_exact_for_linear_data_with_gaussian_noise():
    mask = np.arange(POINTS) % 2 > 0
    operator = build_operator({"name": "mask", "arrays": {"mask": "m"}}, {"m": mask}, GRID, 1)
    y = torch.where(torch.from_numpy(mask), 1.0, 0.0).double()[None, None]
    measurement = Measurement(y=y, operator=operator, noise=GaussianNoise(0.05), grid=GRID)
    n = 6000
    ours = drawn(MGVI(), measurement, n)
    exact = Exact()(prior(), measurement, n, SampleStreams(1, range(n))).samples[:, 0]
    z = (ours.mean(0) - exact.mean(0)) / (ours.var(0) + exact.var(0)).sqrt() * n**0.5
    assert float(z.abs().max()) < 4
    torch.testing.assert_close(torch.cov(ours.mT), torch.cov(exact.mT), rtol=0.1, atol=0.02)
    assert float((ours.std(0) / SD - 1).abs().max()) > 0.3  # negative control: not the prior's


def test_a_sample_depends_on_no_other():
    measurement = counts()
    alone = MGVI()(prior(), measurement, 1, SampleStreams(4, [5])).samples
    among = MGVI()(prior(), measurement, 4, SampleStreams(4, range(3, 7))).samples
    torch.testing.assert_close(alone[0], among[2], rtol=1e-9, atol=1e-9)
    assert not torch.allclose(among[1], among[2])


def test_it_says_what_it_is():
    assert "Gaussian approximation" in str(MGVI().caveat)
    with pytest.raises(InfieldError, match="found iterations=-1, pairs=8, expected at least 0 and at least 1"):
        MGVI(iterations=-1)
