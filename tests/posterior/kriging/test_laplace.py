"""Hyperparameters drawn about the mode: their law, and where they matter; sensors on one side as the case in point."""

import numpy as np
import pytest
import torch

from infield.core.grid import Axis, Grid
from infield.physics.measurement import Measurement
from infield.physics.noise.gaussian import GaussianNoise
from infield.physics.operators.sensors import PointSensors
from infield.posterior.kriging import fitted
from infield.posterior.kriging.fit import Settings
from infield.posterior.kriging.fitted import FittedField
from infield.posterior.kriging.hyperparameters import sample, tamed
from infield.posterior.kriging.laplace import _directions, about_the_mode

AXIS = tuple(i / 11 for i in range(12))
SQUARE = Grid((Axis("y", AXIS, "m"), Axis("x", AXIS, "m")))
ONE = Settings(orders=(1.5,), shapes=("isotropic",))


def seen(n, reach, seed, length=0.25, noise=0.1):
    """Matern 3/2 data at random places where x < reach, with the field at the grid; by numpy."""
    random = np.random.default_rng(seed)
    x = random.random((n, 2)) * [1.0, reach]
    both = np.concatenate([x, SQUARE.points().numpy()])
    r = np.sqrt(3) * np.linalg.norm(both[:, None] - both, axis=-1) / length
    f = np.linalg.cholesky((1 + r) * np.exp(-r) + 1e-9 * np.eye(len(both))) @ random.standard_normal(len(both))
    y = torch.from_numpy(f[:n] + noise * random.standard_normal(n))
    law = GaussianNoise(torch.tensor(noise**2, dtype=torch.float64))
    operator = PointSensors.at_coordinates(SQUARE, 1, torch.from_numpy(x))
    return Measurement(y=y[None, None], operator=operator, noise=law, grid=SQUARE), f[n:]


def test_directions_are_standard_normal_in_few_draws():
    u = torch.cat([_directions(3, 24, seed) for seed in range(200)])
    assert float(u.mean(0).abs().max()) < 1e-9  # pairs
    assert float((u.mT @ u / len(u) - torch.eye(3, dtype=u.dtype)).abs().max()) < 0.05
    one = _directions(3, 24, 5)
    assert float((one.square().sum(1).mean() / 3 - 1).abs()) < 0.03  # independent radii scatter by 0.17
    assert 2.5 < float((u**4).mean()) < 3.1  # nearly normal; of one radius it is 1.8
    assert torch.equal(one, _directions(3, 24, 5)) and not torch.equal(one, _directions(3, 24, 6))


def test_draws_about_the_mode_have_the_posteriors_moments():
    """Of 300 data all over the square, beside importance sampling."""
    measurement, _ = seen(300, 1.0, 0)
    field = FittedField.of(measurement, hyper="plug-in", settings=ONE)
    near = about_the_mode(field.fit, field.data.channels, noise_known=True, states=64, seed=1)
    exact = sample(field.fit, field.data.channels, field.data.geometry, noise_known=True, states=400, seed=1)
    sd = exact.states.std(0)
    assert float(((near.states.mean(0) - exact.states.mean(0)) / sd).abs().max()) < 0.5
    assert float((near.states.std(0) / sd).log().abs().max()) < 0.25
    spread = tamed(field.fit.covariance, field.fit.family).diagonal().sqrt()
    torch.testing.assert_close(near.states.std(0), spread, rtol=0.1, atol=0)
    assert near.laws[0] != near.laws[1] and len(near.coefficients) == 64


def test_hyperparameters_are_drawn_where_they_matter(monkeypatch):
    """Of more data than are always drawn for: on one side they move the posterior, all over the square they do not."""
    monkeypatch.setattr(fitted, "SAMPLED", 100)
    monkeypatch.setattr(fitted, "MOST_STATES", 8)
    monkeypatch.setattr(fitted, "UNSETTLED", 0.1)
    everywhere, one_side = (FittedField.of(seen(150, reach, 1, 0.5)[0], settings=ONE) for reach in (1.0, 0.25))
    assert len(everywhere.states) == 1 and everywhere.unsettled() < 0.1
    assert len(one_side.states) == 8 and one_side.unsettled() > 0.1
    assert one_side.provenance["log_sd_moved_by_hyperparameters"] == pytest.approx(one_side.unsettled())
    monkeypatch.setattr(fitted, "CHAINED", 120)
    assert "Laplace" in FittedField.of(seen(150, 0.25, 1, 0.5)[0], settings=ONE).provenance["hyperparameters_by"]


def test_one_sided_sensors_are_covered_far_away():
    """60 data at x < 1/4: squared errors in claimed variances at x > 0.4, over fields; plugged in they are larger."""
    squares = {"auto": [], "plug-in": []}
    far = SQUARE.points()[:, 1] > 0.4
    for seed in range(9):
        measurement, truth = seen(60, 0.25, 100 + seed)
        for hyper, found in squares.items():
            field = FittedField.of(measurement, hyper=hyper, settings=ONE, seed=seed)
            moments, _ = field.moments_at(SQUARE.points()[far], 0, most=8)
            found.append(float(((torch.from_numpy(truth)[far] - moments.mean).square() / moments.variance).mean()))
    mean, error = np.mean(squares["auto"]), np.std(squares["auto"]) / 3
    assert mean < 1 + 3 * error and mean < np.mean(squares["plug-in"])
    assert np.mean([a < b for a, b in zip(squares["auto"], squares["plug-in"], strict=True)]) > 0.7
