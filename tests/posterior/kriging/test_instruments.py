"""Two instruments in one measurement: as one with a variance a datum, and with levels of their own to be found."""

import numpy as np
import pytest
import torch
from examples.kriging_example import GRID, data_on

from infield.physics.measurement import Measurement
from infield.physics.noise.gaussian import GaussianNoise, UnknownGaussianNoise
from infield.physics.noise.low_rank import LowRankGaussianNoise
from infield.physics.noise.stack import stacked
from infield.physics.operators.sensors import PointSensors
from infield.physics.operators.stack import stack
from infield.posterior.kriging.dense import Dense
from infield.posterior.kriging.fit import Fitting, Settings
from infield.posterior.kriging.fitted import FittedField
from infield.posterior.kriging.log_posterior import LogPosterior
from infield.posterior.kriging.measured import is_point_data, point_data
from infield.posterior.kriging.vecchia import Vecchia, neighbour_terms

SDS = (0.4, 0.05)


def two(models, data=60):
    """Half of the data with noise of one level, half with that of another."""
    x, y, _ = data_on(GRID, noise=1e-8, n=data)
    rng, half = np.random.default_rng(5), data // 2
    order = rng.permutation(data)
    x, y = x[order], y[torch.from_numpy(order)]
    y = y + torch.from_numpy(np.repeat(SDS, half) * rng.standard_normal(2 * half))
    places = torch.from_numpy(np.asarray(x, dtype=float)).reshape(-1, 1)
    operators = [PointSensors.at_coordinates(GRID, 1, p) for p in places.split(half)]
    both = Measurement(y=y[None, None], operator=stack(*operators), noise=stacked(models, (half, half)), grid=GRID)
    variances = torch.tensor(SDS, dtype=torch.float64).square().repeat_interleave(half)
    whole = PointSensors.at_coordinates(GRID, 1, places)
    return both, Measurement(y=y[None, None], operator=whole, noise=GaussianNoise(variances), grid=GRID)


def known():
    return tuple(GaussianNoise(torch.tensor(sd**2, dtype=torch.float64)) for sd in SDS)


def unknown():
    return (UnknownGaussianNoise(torch.tensor(1.0, dtype=torch.float64)),) * 2


def test_known_levels_are_a_variance_for_each_datum():
    both, one = two(known())
    assert is_point_data(both)
    found, expected = (FittedField.of(m, hyper="plug-in") for m in (both, one))
    assert found.fit.log_evidence == pytest.approx(expected.fit.log_evidence, abs=1e-9)
    a, b = (field.moments_at(GRID.points(), 0)[0].mean for field in (found, expected))
    assert torch.allclose(a, b, atol=1e-9)


def test_levels_of_both_are_found():
    both, one = two(unknown(), 200)
    field = FittedField.of(both, hyper="plug-in")
    errors = dict(zip(field.fit.family.names, field.fit.errors, strict=True))
    for k, (sd, right) in enumerate(zip(field.noise_sds, SDS, strict=True)):
        assert abs(np.log(sd / right)) < 3 * 0.5 * errors[f"noise of part {k + 1}"], (sd, right)
    blurred = Measurement(y=one.y, operator=one.operator, noise=unknown()[0], grid=GRID)
    alone = FittedField.of(blurred, hyper="plug-in").noise_sd  # negative control: one level for both is neither
    assert 2 * SDS[1] < alone < 0.9 * SDS[0]


def test_one_level_is_found_beside_a_known_one():
    both, _ = two((unknown()[0], known()[1]), 200)
    field = FittedField.of(both, hyper="plug-in")
    assert field.fit.family.noise == 1
    assert field.noise_sds[0] == pytest.approx(SDS[0], rel=0.25) and field.noise_sds[1] == pytest.approx(SDS[1])


@pytest.mark.parametrize("exact", [True, False])
def test_gradients_of_the_evidence(exact):
    both, _ = two(unknown())
    data = point_data(both)
    fitting = Fitting(data.channels, data.geometry, False, Settings())
    family, (own,) = fitting.family(1.5, "isotropic"), fitting.channels
    theta = family.prior[0] + torch.tensor([0.2, -0.3, 0.5, -1.0], dtype=torch.float64)
    prior = fitting.prior_variance(own)
    z = family.kernel(theta, own.x)[0]
    part = Dense(own, prior, 1.5) if exact else Vecchia(own, neighbour_terms(z, torch.arange(len(own)), 10), prior, 1.5)
    posterior = LogPosterior(family, [part])
    _, gradient = posterior.gradient(theta)
    for i in range(len(theta)):
        step = torch.zeros_like(theta)
        step[i] = 1e-5
        slope = (posterior.value(theta + step) - posterior.value(theta - step)) / 2e-5
        assert float(gradient[i]) == pytest.approx(slope, rel=1e-4, abs=1e-4)


def test_errors_that_data_share_lie_along_the_sensors_or_along_channels_as_well():
    """A file stores factors `(rows, sensor)` beside data `(sensor,)`; in memory both may have the axis of channels."""
    _, one = two(known())
    factors = torch.zeros(1, 60, dtype=torch.float64)
    factors[0, :20] = 0.5
    found = []
    for of in (factors, factors[:, None]):
        noise = LowRankGaussianNoise(torch.tensor(0.01, dtype=torch.float64), of)
        measurement = Measurement(y=one.y, operator=one.operator, noise=noise, grid=GRID)
        found.append(FittedField.of(measurement, hyper="plug-in"))
    assert found[0].fit.log_evidence == pytest.approx(found[1].fit.log_evidence, abs=1e-9)
    assert float(found[0].data.channels[0].design[:, -1].sum()) == pytest.approx(10.0)
