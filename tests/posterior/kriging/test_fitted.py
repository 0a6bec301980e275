"""A fitted field beside dense kriging in numpy: moments, draws, shared errors, other units, and as a prior."""

import numpy as np
import pytest
import torch
from examples.kriging_example import GRID, data_on
from torch import Generator

from infield import InfieldError
from infield.core.grid import Axis, Grid
from infield.core.randomness import SampleStreams
from infield.physics.measurement import Measurement
from infield.physics.noise.gaussian import GaussianNoise, UnknownGaussianNoise
from infield.physics.noise.low_rank import LowRankGaussianNoise
from infield.physics.operators.sensors import Mask, PointSensors
from infield.posterior.kriging.family import TREND_SD
from infield.posterior.kriging.fitted import FittedField
from infield.posterior.kriging.measured import is_point_data, point_data
from infield.posterior.samplers.exact import Exact
from infield.posterior.samplers.kriging import Kriging


def measured(noise=0.05, grid=GRID, **more):
    x, y, operator = data_on(grid, noise=noise, **more)
    law = GaussianNoise(torch.tensor(noise, dtype=torch.float64))
    return x, Measurement(y=y[None, None], operator=operator, noise=law, grid=grid, units="K")


def dense(law, x, y, targets, noise, F, F_targets, variances):
    """Universal kriging by the covariance of everything, the terms of F integrated out; in numpy."""
    (length,) = set(law.lengths)
    c = np.sqrt(2 * law.nu)

    def k(a, b):
        z = c * np.abs(a[:, None] - b) / length
        shape = {0.5: 1.0, 1.5: 1 + z, 2.5: 1 + z + z**2 / 3}[law.nu]
        return law.variance * shape * np.exp(-z)

    B = np.diag(variances)
    K = k(x, x) + F @ B @ F.T + noise
    cross = k(targets, x) + F_targets @ B @ F.T
    mean = cross @ np.linalg.solve(K, y)
    covariance = k(targets, targets) + F_targets @ B @ F_targets.T - cross @ np.linalg.solve(K, cross.T)
    return mean, covariance


def exact_moments(field, x, y, targets, noise):
    F, F_targets = np.ones((len(x), 1)), np.ones((len(targets), 1))
    wide = [(TREND_SD * field.fit.scale) ** 2]
    return dense(field.fit.law, x, y - field.fit.centre, targets, noise, F, F_targets, wide)


def test_moments_and_draws_are_those_of_dense_kriging():
    x, measurement = measured()
    field = FittedField.of(measurement, hyper="plug-in")
    targets = GRID.points()[:, 0].numpy()
    mean, covariance = exact_moments(field, x, measurement.y.flatten().numpy(), targets, 0.05 * np.eye(len(x)))
    found, between = field.moments_at(GRID.points(), 0)
    sd = np.sqrt(covariance.diagonal())
    assert np.abs(found.mean.numpy() - field.fit.centre - mean).max() < 1e-4 * sd.min()
    assert np.abs(found.variance.sqrt().numpy() / sd - 1).max() < 1e-4
    assert float(between.abs().max()) == 0  # one value of the hyperparameters

    n = 4000
    draws = field.draw(n, Generator().manual_seed(1))[:, 0].numpy()
    z = (draws.mean(0) - found.mean.numpy()) / (sd / np.sqrt(n))
    assert np.abs(z).max() < 4.5
    cov = np.cov(draws.T)
    error = np.sqrt((covariance**2 + np.outer(covariance.diagonal(), covariance.diagonal())) / n)
    assert np.abs((cov - covariance) / error).max() < 6
    wrong = (draws.mean(0) - 1.01 * found.mean.numpy()) / (sd / np.sqrt(n))  # the control: a percent is seen
    assert np.abs(wrong).max() > 4.5


def test_a_sample_depends_on_seed_and_number_alone():
    _, measurement = measured(n=25)
    field = FittedField.of(measurement, seed=3)
    assert len(field.states) > 1  # few data: hyperparameters are drawn
    together = field.draw(6, SampleStreams(3, range(6)))
    alone = torch.cat([field.draw(1, SampleStreams(3, [i])) for i in (5, 2)])
    torch.testing.assert_close(together[[5, 2]], alone)


def test_errors_that_data_share_are_terms_beside_the_trend():
    x, y, operator = data_on(GRID, bias=3.0)
    factor = 4.0 * (torch.arange(len(x)) >= len(x) // 2).to(torch.float64)
    noise = LowRankGaussianNoise(torch.tensor(0.05, dtype=torch.float64), factor[None, None])
    measurement = Measurement(y=y[None, None], operator=operator, noise=noise, grid=GRID, units="K")
    field = FittedField.of(measurement, hyper="plug-in")
    targets = GRID.points()[:, 0].numpy()
    R = 0.05 * np.eye(len(x)) + np.outer(factor, factor)
    mean, covariance = exact_moments(field, x, y.numpy(), targets, R)
    found, _ = field.moments_at(GRID.points(), 0)
    np.testing.assert_allclose(found.mean.numpy() - field.fit.centre, mean, atol=2e-4)
    np.testing.assert_allclose(found.variance.numpy(), covariance.diagonal(), rtol=2e-3)
    without, _ = FittedField.of(measured(bias=3.0)[1], hyper="plug-in").moments_at(GRID.points(), 0)
    assert float((without.mean - found.mean).abs().max()) > 0.5  # the control: the offset matters


def test_the_posterior_does_not_move_with_units():
    x, measurement = measured()
    axis = GRID.axes[0]
    in_km = Grid((Axis("x", tuple(c / 1000 for c in axis.coordinates), "km"),))
    operator = PointSensors.at_coordinates(in_km, 1, torch.from_numpy(x / 1000)[:, None])
    milli = Measurement(
        y=1000 * measurement.y, operator=operator, noise=GaussianNoise(torch.tensor(0.05e6, dtype=torch.float64)),
        grid=in_km, units="mK",
    )  # fmt: skip
    one = FittedField.of(measurement, hyper="plug-in").moments_at(GRID.points(), 0)[0]
    other = FittedField.of(milli, hyper="plug-in").moments_at(in_km.points(), 0)[0]
    torch.testing.assert_close(other.mean, 1000 * one.mean, rtol=1e-6, atol=0)
    torch.testing.assert_close(other.variance, 1e6 * one.variance, rtol=1e-5, atol=0)


def test_noise_of_unknown_level_is_estimated():
    found = []
    for seed in range(4):
        _, y, operator = data_on(GRID, n=150, noise=0.09, seed=seed)
        noise = UnknownGaussianNoise.of_data(y.numpy())
        measurement = Measurement(y=y[None, None], operator=operator, noise=noise, grid=GRID, units="K")
        field = FittedField.of(measurement, hyper="plug-in")
        error = dict(zip(field.fit.family.names, field.fit.errors, strict=True))["noise"] / 2  # of log sd
        found.append((np.log(field.noise_sd) - np.log(0.3)) / error)
        assert "noise sd" in field.name
    assert np.abs(found).max() < 3.5 and np.abs(np.mean(found)) < 2


def test_as_a_prior_other_samplers_agree():
    generator = Generator().manual_seed(0)
    grid = Grid.regular((40,), 8.0)
    indices = torch.randperm(40, generator=generator)[:25].sort().values
    y = torch.sin(grid.points()[indices, 0]) + 0.1 * torch.randn(25, generator=generator, dtype=torch.float64)
    noise = GaussianNoise(torch.tensor(0.01, dtype=torch.float64))
    operator = PointSensors.at_indices(grid, 1, indices)
    measurement = Measurement(y=y[None, None], operator=operator, noise=noise, grid=grid)
    field = FittedField.of(measurement, trend="none", hyper="plug-in")
    found, _ = field.moments_at(grid.points(), 0)
    n = 3000
    draws = Exact()(field.as_prior(), measurement, n, Generator().manual_seed(1)).samples[:, 0]
    z = (draws.mean(0) - found.mean) / (found.variance.sqrt() / n**0.5)
    assert float(z.abs().max()) < 4.5
    assert float((draws.var(0) / found.variance - 1).abs().max()) < 6 * (2 / n) ** 0.5
    with pytest.raises(InfieldError, match="the law that is fitted to point data"):
        Kriging()(field.as_prior(), measurement, 1, generator)


def test_which_measurements_are_point_data():
    _, measurement = measured()
    assert is_point_data(measurement)
    grid = Grid.regular((6, 5), 1.0)
    seen = torch.ones(grid.shape, dtype=torch.bool)
    seen[2, 3] = False
    y = torch.arange(30.0, dtype=torch.float64).reshape(1, 1, 6, 5)
    masked = Measurement(
        y=y, operator=Mask(grid, 1, seen), noise=GaussianNoise(torch.tensor(1.0, dtype=torch.float64)), grid=grid
    )
    data = point_data(masked, "linear")
    assert is_point_data(masked) and data.count == 29
    assert 13.0 not in data.channels[0].y.tolist()
    assert data.channels[0].design.shape == (29, 3)
    with pytest.raises(InfieldError, match="none, constant, linear"):
        point_data(masked, "cubic")
