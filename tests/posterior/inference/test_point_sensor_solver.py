"""Sensors on a stationary field, by look-ups in its covariance function: against matrices, to rounding."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace

import pytest
import torch

from infield.core.grid import Axis, Grid
from infield.core.transform import Affine
from infield.datasets.wall_pressure.sensors import WallSensors
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import GaussianNoise
from infield.physics.operators.registry import build_operator
from infield.physics.wall_pressure.wall_units import wall_grid
from infield.posterior.inference.linear_gaussian import LinearGaussianData
from infield.posterior.inference.point_sensor_solver import PointSensorSolver
from infield.posterior.samplers.faps import FAPS
from infield.priors.covariance.base import Covariance
from infield.priors.covariance.modes import Hartley
from infield.priors.gaussian.prior import gaussian_prior
from infield.priors.wall_pressure.synthetic import WallPressure

LAW = WallPressure(180)
CLOSED = wall_grid(180, math.pi, math.pi / 2)
OPEN = Grid((CLOSED.axes[0], Axis("x", CLOSED.axes[1].coordinates[:20], "nu/u_tau", periodic=False)))


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def on_points(grid: Grid) -> Measurement:
    truth = torch.randn(grid.shape, generator=rng(0)).double()
    return WallSensors.random(grid, 0.1, 3).measure(truth, 0.3, 1)


def between_points(grid: Grid) -> Measurement:
    high = torch.tensor([axis.coordinates[-1] for axis in grid.axes]).double()
    positions = torch.rand((30, 2), generator=rng(2)).double() * high
    truth = torch.randn(grid.shape, generator=rng(0)).double()
    return WallSensors.at(grid, positions.numpy()).measure(truth, 0.3, 1)


def some_missing(grid: Grid) -> Measurement:
    measurement = on_points(grid)
    seen = torch.arange(measurement.y.numel()).reshape(measurement.y[0].shape) % 4 != 1
    variance = 0.01 + torch.rand(measurement.y[0].shape, generator=rng(5)).double()
    return replace(measurement, observed=seen, noise=GaussianNoise(variance))


@pytest.mark.parametrize("grid", [CLOSED, OPEN], ids=["torus", "window"])
@pytest.mark.parametrize("make", [on_points, between_points, some_missing])
def test_it_is_the_dense_answer_to_rounding(make, grid):
    prior = gaussian_prior(LAW, grid).in_units(0.5, 1.7)
    data = make(grid).pullback(prior.standardisation)
    dense = LinearGaussianData(data, prior.covariance.modes)
    fast = LinearGaussianData(data, prior.covariance.modes)
    fast.__dict__["dense"] = False
    covariance = prior.bridge(0.6).conditional()
    assert dense.dense and not dense.by_sensors(covariance) and fast.by_sensors(covariance)
    difference = (dense.factorise(covariance) - fast.factorise(covariance)).abs().max()
    assert difference < 1e-11 * dense.factorise(covariance).abs().max()
    mean = torch.randn((3, *covariance.event_shape), generator=rng(6)).double()
    one, other = (d.draw(mean, covariance, rng(7)) for d in (dense, fast))
    assert (one - other).abs().max() < 1e-11 * one.abs().max()
    assert (one - dense.draw(mean, covariance, rng(8))).abs().max() > 0.1  # negative control: another draw
    evidence = [d.log_evidence(mean[0], covariance) for d in (dense, fast)]
    assert float(evidence[0]) == pytest.approx(float(evidence[1]), rel=1e-11)


def test_what_is_not_stationary_or_no_sensor_is_left_to_others():
    data = on_points(CLOSED).pullback(gaussian_prior(LAW, CLOSED).standardisation)
    sensors = PointSensorSolver.of(data.operator, CLOSED.shape)
    covariance = LAW.covariance(CLOSED)
    assert sensors.applies_to(covariance)
    uneven = covariance.diagonal.clone()
    uneven[0, 1, 2] *= 1.001
    assert not sensors.applies_to(Covariance.diagonal_in(Hartley(2), uneven))
    assert not sensors.applies_to(replace(covariance, factors=torch.ones(1, *covariance.event_shape).double()))
    rough = data.pullback(Affine(torch.zeros(1, 1, 1), 1 + torch.rand((1, *CLOSED.shape)).double()))
    assert PointSensorSolver.of(rough.operator, CLOSED.shape) is None
    kernel = torch.ones(3, 3).double().numpy()
    blur = build_operator({"name": "convolution", "arrays": {"kernel": "k"}}, {"k": kernel}, CLOSED, 1)
    assert PointSensorSolver.of(blur, CLOSED.shape) is None
    assert PointSensorSolver.of(data.operator, (3, 4)) is None


@pytest.fixture
def counted(monkeypatch):
    """How often fields are transformed and matrices factorised, by the name of what does it."""
    counts = Counter()

    def count(module, name):
        plain = getattr(module, name)

        def counting(*arguments):
            counts[name] += len(arguments[-1]) if module is Hartley else 1  # fields; or matrices
            return plain(*arguments)

        monkeypatch.setattr(module, name, counting)

    for name in ("analyse", "synthesise"):
        count(Hartley, name)
    count(torch.linalg, "cholesky")
    return counts


def test_hundreds_of_sensors_on_a_quarter_of_a_million_points(counted):
    """The conditioning for which conjugate gradients need hundreds of iterations, and matrices a transform a sensor;
    and that samplers come to it by themselves."""
    grid = wall_grid(500, 16 * math.pi)
    law = WallPressure(500)
    truth = law.draw(grid, lambda shape: torch.randn((1, *shape), generator=rng(0), dtype=torch.float64))[0]
    measurement = WallSensors.random(grid, 0.0025, 0).measure(truth, 0.1, 0)
    prior = gaussian_prior(law, grid)
    data = LinearGaussianData(measurement.pullback(prior.standardisation), prior.covariance.modes)
    assert not data.dense and data.by_sensors(prior.covariance)
    counted.clear()
    posterior = FAPS()(prior, measurement, 2, rng(1))
    assert counted["cholesky"] == 1 and 0 < counted["analyse"] + counted["synthesise"] < 40 < measurement.count / 10
    assert 0.8 < posterior.diagnostics["chi_square"] < 1.2
    assert posterior.cost["operator_calls"] < 5
