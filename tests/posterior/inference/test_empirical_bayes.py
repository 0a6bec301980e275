"""The prior that is fitted to a measurement: it finds the law of the field, and predicts data that it has not seen."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from infield import InfieldError
from infield.core.grid import Axis, Grid, PointSet
from infield.core.spectra import wavenumbers
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import GaussianNoise, PoissonNoise
from infield.physics.operators.registry import build_operator
from infield.posterior.diagnostics.calibration import predictive_chi_square
from infield.posterior.inference import empirical_bayes
from infield.posterior.inference.empirical_bayes import KNOTS, _check_points, _FreeSpectrum, _shells, fit_prior
from infield.posterior.samplers.exact import Exact
from infield.priors.covariance.modes import Hartley
from infield.priors.gaussian.kernels import Matern
from infield.priors.gaussian.prior import GaussianPrior, gaussian_prior

LENGTH, VARIANCE, MEAN, NOISE = 0.1, 4.0, 7.0, 0.05
LAW = Matern(1.5, LENGTH, VARIANCE)
GRID = Grid.regular((32, 32), 1.0, periodic=True)


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def on_a_grid(seed: int = 0, share: float = 0.5) -> tuple[Measurement, Tensor]:
    """A field with half of its points seen, and the field."""
    truth = MEAN + LAW.covariance(GRID).sample(1, rng(seed))
    mask = np.random.default_rng(seed).random(GRID.shape) < share
    return observe(GRID, {"name": "mask", "arrays": {"mask": "mask"}}, {"mask": mask}, truth), truth


def on_points(seed: int = 0, number: int = 250) -> tuple[Measurement, Tensor]:
    """A field on scattered points of a square, every second one seen."""
    places = np.random.default_rng(seed).random((number, 2))
    grid = PointSet(tuple(map(tuple, places.tolist())), ("y", "x"), units="m")
    truth = MEAN + LAW.covariance(grid).sample(1, rng(seed))
    seen = {"indices": np.arange(0, number, 2)}
    return observe(grid, {"name": "points", "arrays": {"indices": "indices"}}, seen, truth), truth


def observe(grid: Grid | PointSet, description: dict, arrays: dict, truth: Tensor) -> Measurement:
    operator, noise = build_operator(description, arrays, grid, 1), GaussianNoise(NOISE)
    y = noise.sample(operator.A(truth), rng(99))
    return Measurement(
        y=y, operator=operator, noise=noise, grid=grid, units="K", description=description, arrays=arrays
    )


def variance_of(prior: GaussianPrior) -> float:
    """Variance of a value in the units of the field."""
    return float(prior.standardisation.scale) ** 2 * prior.covariance.trace / prior.mean.numel()


def correlation(prior: GaussianPrior, distance: float) -> float:
    """Correlation of values at a distance along the grid's last axis."""
    unit = torch.zeros((1, *prior.mean.shape), dtype=torch.float64)
    unit[(0,) * unit.ndim] = 1
    row = prior.covariance.apply(unit)[0, 0]
    step = round(distance * row.shape[-1])
    return float(row.reshape(-1, row.shape[-1])[0, step] / row.flatten()[0])


def exact_correlation(distance: float) -> float:
    z = math.sqrt(3) * distance / LENGTH
    return (1 + z) * math.exp(-z)


DISTANCES = (1 / 32, 3 / 32, 5 / 32)


@pytest.mark.parametrize("nu", [1.5, None], ids=["order given", "order fitted"])
def test_the_law_of_fields_on_a_grid_is_found(nu):
    """One field holds about a hundred correlated patches, so that means over a few fields are compared."""
    made = [on_a_grid(seed) for seed in range(5)]
    priors = [fit_prior(measurement, nu=nu) for measurement, _ in made]
    assert np.mean([variance_of(prior) for prior in priors]) == pytest.approx(VARIANCE, rel=0.3)
    for distance in DISTANCES:
        found = np.mean([correlation(prior, distance) for prior in priors])
        assert found == pytest.approx(exact_correlation(distance), abs=0.08)
    for prior, (_, truth) in zip(priors, made, strict=True):
        assert variance_of(prior) == pytest.approx(float(truth.var()), rel=0.3)
        assert float(prior.standardisation.shift) == pytest.approx(float(truth.mean()), abs=0.3)
        assert prior.units == "K" and prior.mean.abs().max() == 0


def test_the_tolerance_tells_lengths_apart():
    for wrong in (0.6, 1.6):
        assert max(abs(exact_correlation(d / wrong) - exact_correlation(d)) for d in DISTANCES) > 2 * 0.08


def test_the_law_of_fields_on_scattered_points_is_found():
    variances, gaps = [], []
    for seed in range(5):
        measurement, _ = on_points(seed)
        prior = fit_prior(measurement)
        points = measurement.grid.points()
        eye = torch.eye(len(points), dtype=torch.float64)[:, None]
        C = prior.covariance.apply(eye)[:, 0] * float(prior.standardisation.scale) ** 2
        variances.append(variance_of(prior))
        r = torch.cdist(points, points)
        near = (r > 0.08) & (r < 0.12)
        expected = float(torch.stack([torch.tensor(exact_correlation(float(d))) for d in r[near]]).mean())
        gaps.append(float(C[near].mean()) / variances[-1] - expected)
    assert np.mean(variances) == pytest.approx(VARIANCE, rel=0.3)
    assert abs(np.mean(gaps)) < 0.08 and np.max(np.abs(gaps)) < 0.2


def held_out_chi_square(prior: GaussianPrior, measurement: Measurement, truth: Tensor) -> float:
    samples = Exact()(prior, measurement, 64, rng(3)).samples.flatten(1)
    hidden = torch.ones(truth.numel(), dtype=torch.bool)
    seen = measurement.operator.A_adjoint(torch.ones_like(measurement.y)).flatten() > 0
    hidden[seen] = False
    y = truth.flatten()[hidden]
    y = y + math.sqrt(NOISE) * torch.randn(y.shape, generator=rng(4), dtype=torch.float64)
    return predictive_chi_square(samples[:, hidden], torch.tensor(NOISE, dtype=torch.float64), y)


@pytest.mark.slow
@pytest.mark.parametrize("make", [on_a_grid, on_points], ids=["grid", "points"])
def test_data_that_were_held_out_are_predicted_with_the_right_spread(make):
    made = [make(seed) for seed in range(8)]

    def chi_square(choose) -> float:
        return float(np.mean([held_out_chi_square(choose(measurement), measurement, x) for measurement, x in made]))

    def too_smooth(measurement: Measurement) -> GaussianPrior:
        return gaussian_prior(Matern(1.5, 4 * LENGTH, VARIANCE), measurement.grid).in_units(MEAN, 1.0)

    def too_rough(measurement: Measurement) -> GaussianPrior:
        return gaussian_prior(Matern(1.5, LENGTH / 3, VARIANCE), measurement.grid).in_units(MEAN, 1.0)

    assert 0.7 < chi_square(fit_prior) < 1.4
    assert chi_square(too_smooth) > 1.4
    assert chi_square(too_rough) < 0.7


def test_the_fit_is_repeatable_and_follows_the_units():
    measurement, _ = on_a_grid()
    prior, again = fit_prior(measurement), fit_prior(measurement)
    assert torch.equal(prior.covariance.diagonal, again.covariance.diagonal)
    larger = replace(measurement, y=10 * measurement.y, noise=GaussianNoise(100 * NOISE))
    scaled = fit_prior(larger)
    assert variance_of(scaled) == pytest.approx(100 * variance_of(prior), rel=1e-3)
    assert float(scaled.standardisation.shift) == pytest.approx(10 * float(prior.standardisation.shift), rel=1e-6)
    assert correlation(scaled, 3 / 32) == pytest.approx(correlation(prior, 3 / 32), abs=1e-3)


def test_each_channel_has_its_own_mean():
    mask = np.random.default_rng(0).random((2, 16, 16)) < 0.5
    grid = Grid.regular((16, 16), 1.0, periodic=True)
    offset = torch.tensor([3.0, -20.0], dtype=torch.float64).reshape(2, 1, 1)
    truth = offset + LAW.covariance(grid, 2).sample(1, rng(0))
    description, arrays = {"name": "mask", "arrays": {"mask": "mask"}}, {"mask": mask}
    operator, noise = build_operator(description, arrays, grid, 2), GaussianNoise(NOISE)
    measurement = Measurement(
        y=noise.sample(operator.A(truth), rng(1)),
        operator=operator,
        noise=noise,
        grid=grid,
        channels=("u", "v"),
        description=description,
        arrays=arrays,
    )
    prior = fit_prior(measurement)
    assert prior.mean.shape == (2, 16, 16)
    torch.testing.assert_close(prior.standardisation.shift, offset, atol=1.5, rtol=0)


def test_data_of_great_noise_do_not_hide_the_others():
    """Half of the data are a thousand times noisier than the field varies: they count for what they are."""
    grid = Grid.regular((12, 12), 1.0, periodic=True)
    truth = MEAN + LAW.covariance(grid).sample(1, rng(3))
    measurement = observe(grid, {"name": "mask", "arrays": {"mask": "mask"}}, {"mask": np.ones(grid.shape)}, truth)
    noise = GaussianNoise(torch.where(torch.rand(1, 12, 12, generator=rng(4)) < 0.5, 1e6 * VARIANCE, NOISE))
    y = noise.sample(truth, rng(5))
    prior = fit_prior(replace(measurement, y=y, noise=noise), nu=1.5)
    assert abs(float(prior.standardisation.shift) - MEAN) < 1.5 and 0.3 < variance_of(prior) / VARIANCE < 3


def test_a_mean_that_no_datum_sees_is_zero():
    """Fourier coefficients without the one at zero."""
    grid = Grid.regular((12, 12), 1.0, periodic=True)
    mask = np.ones(grid.shape)
    mask[6, 6] = 0
    truth = MEAN + LAW.covariance(grid).sample(1, rng(3))
    measurement = observe(grid, {"name": "fourier", "arrays": {"mask": "mask"}}, {"mask": mask}, truth)
    prior = fit_prior(measurement, nu=1.5)
    assert float(prior.standardisation.shift) == 0 and 0.3 < variance_of(prior) / VARIANCE < 3


def test_errors():
    measurement, _ = on_a_grid()
    with pytest.raises(InfieldError, match="times the power of their noise"):
        fit_prior(replace(measurement, noise=GaussianNoise(100.0)))
    with pytest.raises(InfieldError, match=r"^the default Gaussian prior, fitted.*; name a prior with prior$"):
        fit_prior(replace(measurement, y=measurement.y.abs().round(), noise=PoissonNoise(1.0)))


def test_many_data_are_judged_by_four_random_groups_of_them(monkeypatch):
    measurement, _ = on_a_grid()
    monkeypatch.setattr(empirical_bayes, "GROUP", 60)
    groups = list(empirical_bayes._groups(measurement, Hartley(2), rng(0)))
    assert [len(group.y) for group, _ in groups] == [60] * 4
    seen = measurement.y.flatten()[measurement.operator.observed.flatten()]
    chosen = torch.cat([group.y for group, _ in groups])
    assert len(chosen.unique()) == 240 and bool(torch.isin(chosen, seen).all())  # no datum twice
    other = torch.cat([group.y for group, _ in empirical_bayes._groups(measurement, Hartley(2), rng(1))])
    assert not torch.equal(other, chosen)


def test_the_constant_mode_has_a_shell_of_its_own():
    """Whatever the spacing; edges in single precision put the longest waves with it on half of the grids."""
    merged = 0
    for n in range(8, 40):
        k = wavenumbers((n, n), (0.1, 0.1))
        shells = _shells(k)
        assert shells.modes[0] == 1 and shells.index[0, 0] == 0 and (shells.modes > 0).all()
        assert int(shells.modes.sum()) == n * n and (shells.mean(k).diff() > 0).all()
        lowest = float(k[k > 0].min().log10()) - 1e-9
        merged += bool(k[k > 0].min() <= torch.logspace(lowest, 1, 2)[0].double())  # negative control
    assert merged > 4


def test_a_free_spectrum_is_a_broken_line_of_logarithms():
    k = torch.tensor([0.0, 0.5, 1.0, 2.0, 40.0], dtype=torch.float64)
    spectrum = _FreeSpectrum(k)
    knots = np.linspace(np.log(0.5), np.log(40.0), KNOTS)
    theta = torch.randn(KNOTS, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    at = np.array([0.01, 0.5, *np.exp(knots), *np.exp(knots[:-1] + 0.3 * np.diff(knots))])
    expected = np.exp(np.interp(np.log(at), knots, theta.numpy()))  # constant below the first knot
    np.testing.assert_allclose(spectrum(theta, torch.from_numpy(at)), expected, rtol=1e-9)


def on_uneven_axes(seed: int) -> Measurement:
    """A field where the steps of one axis grow twentyfold, every second value seen."""
    x = np.cumsum(np.geomspace(0.004, 0.08, 25))
    grid = Grid((Axis("y", tuple(np.linspace(0, 1, 12)), "m"), Axis("x", tuple(x), "m")))
    C = torch.from_numpy(_matern_three_halves(grid.points().numpy()))
    root = torch.linalg.cholesky(C + 1e-9 * torch.eye(len(C)))
    truth = MEAN + (root @ torch.randn(len(C), generator=rng(seed), dtype=torch.float64)).reshape(1, 1, 12, 25)
    mask = np.random.default_rng(seed).random(grid.shape) < 0.5
    return observe(grid, {"name": "mask", "arrays": {"mask": "mask"}}, {"mask": mask}, truth)


def _matern_three_halves(x: np.ndarray) -> np.ndarray:
    r = np.sqrt(3) * np.linalg.norm(x[:, None] - x, axis=-1) / LENGTH
    return VARIANCE * (1 + r) * np.exp(-r)


@pytest.mark.field
def test_the_law_of_fields_on_uneven_axes_is_found():
    lengths = []
    for seed in range(5):
        measurement = on_uneven_axes(seed)
        prior = fit_prior(measurement, nu=1.5)
        assert prior.mean.shape == (1, 12, 25) and prior.units == "K"
        lengths.append(float(prior.name.split("length ")[1].split(" ")[0]))
        assert 0.3 < variance_of(prior) / VARIANCE < 3
    assert np.exp(np.mean(np.log(lengths))) == pytest.approx(LENGTH, rel=0.25)
    number = Axis("x", tuple(map(float, range(25))), "m")
    by_number = replace(measurement, grid=Grid((measurement.grid.axes[0], number)))
    wrong = float(fit_prior(by_number, nu=1.5).name.split("length ")[1].split(" ")[0])  # negative control
    assert abs(wrong / LENGTH - 1) > 0.3


@pytest.mark.field
@pytest.mark.parametrize(
    ("grid", "channels", "words"),
    [
        (lambda x: Grid((Axis("t", (0.0, 1.0), "s"), Axis("x", x, "m"))), 1, "axes in m and s.*interpolate"),
        (lambda x: Grid((Axis("y", (0.0, 1.0), "m"), Axis("x", x, "m"))), 2, "2 channels.*interpolate"),
        (lambda x: Grid((Axis("y", tuple(map(float, range(500))), "m"), Axis("x", x, "m"))), 1, "at most 4096.*prior"),
    ],
    ids=["two units", "two channels", "too many"],
)
def test_uneven_axes_that_have_no_law(grid, channels, words):
    with pytest.raises(InfieldError, match=words):
        _check_points(grid(tuple(np.geomspace(1, 9, 9))), channels)
