"""The prior that is fitted to counts and to data behind links: it finds the law, on the domain as it is."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from infield import InfieldError
from infield.core.grid import Axis, Grid, PointSet
from infield.core.randomness import SampleStreams
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import GaussianNoise, LowRankGaussianNoise, PoissonNoise
from infield.physics.operators.registry import build_operator
from infield.pipelines.run.prior_choice import choose_prior
from infield.posterior.models import latent_fit
from infield.posterior.models.latent_fit import fit_latent_prior
from infield.posterior.samplers.faps import FAPS
from infield.priors.gaussian.matern import matern_matrix

NU, LENGTH, SD, MEAN = 1.5, 0.1, 0.8, 1.0


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def counts(grid, seed: int = 0, *, link: str = "exp", noise=None, mean: float = MEAN, length: float = LENGTH, sd=SD):
    """Data of every point of a field."""
    K = matern_matrix(grid.points(), nu=NU, length=length, variance=sd**2) + 1e-10 * torch.eye(grid.size)
    truth = mean + torch.linalg.cholesky(K) @ torch.randn(grid.size, generator=rng(seed), dtype=torch.float64)
    truth = truth.reshape(1, 1, *grid.shape)
    operator, noise = build_operator({"name": link}, {}, grid, 1), noise or PoissonNoise(1.0)
    y = noise.sample(operator.A(truth), rng(seed + 1000))
    return Measurement(
        y=y, operator=operator, noise=noise, grid=grid, units="1", description={"name": link}, truth=truth
    )


def line(n: int, extent: float = 1.0, **how) -> Grid:
    return Grid.regular((n,), extent, **how)


def test_it_finds_the_law():
    """Log length and log standard deviation within their errors, on five series; and not those of another law."""
    fits = [fit_latent_prior(counts(line(120, 2.0), seed), nu=NU).provenance["fit"] for seed in range(5)]
    errors = np.array([fit["errors"] for fit in fits])
    found = np.array([[math.log(fit["sd"]), math.log(fit["length"])] for fit in fits])
    z = (found - np.log([SD, LENGTH])) / errors
    assert (np.abs(z) < 3.5).all() and 0.2 < (z**2).mean() < 3
    others = (found - np.log([SD, 3 * LENGTH])) / errors
    assert (others[:, 1] ** 2).mean() > 6  # negative control
    assert (errors > 0.05).all() and (errors < 0.6).all()


def test_the_law_is_that_of_the_open_domain():
    """Between the ends of an open axis there is the covariance of the law, and of the unknown mean; a periodic axis
    closes."""
    measurement = counts(line(60, 2.0), 3)
    prior = fit_latent_prior(measurement, nu=NU)
    fit, wide = prior.provenance["fit"], prior.provenance["fit"]["sd_of_mean"]
    window = prior.standardisation.window
    unit = torch.eye(60, dtype=torch.float64)[:, None]
    scale = float(prior.standardisation.scale)
    K = scale**2 * window.crop(prior.covariance.apply(window.pad(unit)))[:, 0]
    expected = matern_matrix(measurement.grid.points(), nu=NU, length=fit["length"], variance=fit["sd"] ** 2) + wide**2
    torch.testing.assert_close(K, expected, rtol=1e-5, atol=1e-6 * wide**2)
    closed = fit_latent_prior(counts(line(60, 2.0, periodic=True), 3), nu=NU)
    assert not hasattr(closed.standardisation, "window")
    K = closed.covariance.apply(unit)[:, 0]
    assert abs(float(K[0, -1] - K[0, 1])) < 1e-9 * float(K[0, 0])


def test_the_posterior_beside_importance_sampling():
    """Six counts, the fitted prior with its unknown mean: mean and standard deviation of every value by 400,000
    weighted draws."""
    measurement = counts(line(6), 5, mean=0.5)
    K = matern_matrix(measurement.grid.points(), nu=NU, length=0.4, variance=SD**2) + 4.0
    domain = latent_fit._Domain.of(measurement, 2.0)
    chosen = latent_fit.Fit(NU, 0.4, SD, (0.1, 0.1), 0.0, 1.0, (), 2.0)
    own = domain.prior(chosen, torch.full((1, 1, 1), 0.3, dtype=torch.float64), "1")
    samples = FAPS()(own, measurement, 1500, SampleStreams(0, range(1500))).samples[:, 0]
    y, L = measurement.y[0, 0], torch.linalg.cholesky(K)
    w = torch.randn((400_000, 6), generator=rng(1), dtype=torch.float64)
    precision = torch.linalg.inv(K) + torch.diag(y.clamp_min(0.5))
    centre, root = torch.linalg.solve(precision, y.clamp_min(0.5) * y.clamp_min(0.5).log() + 0.3 * torch.linalg.solve(
        K, torch.ones(6, dtype=torch.float64))), torch.linalg.cholesky(1.5 * torch.linalg.inv(precision))  # fmt: skip
    u = centre + w @ root.mT
    log_weight = (y * u - u.exp()).sum(1) - 0.5 * torch.linalg.solve_triangular(
        L, (u - 0.3).mT, upper=False
    ).square().sum(0) + 0.5 * w.square().sum(1)  # fmt: skip
    weight = torch.softmax(log_weight, 0)
    assert 1 / float(weight.square().sum()) > 40_000
    mean = weight @ u
    sd = (weight @ (u - mean).square()).sqrt()
    z = (samples.mean(0) - mean) / (sd / len(samples) ** 0.5)
    assert float(z.abs().max()) < 5.0  # chains of 120 steps are not quite independent of their start
    torch.testing.assert_close(samples.std(0), sd, rtol=0.09, atol=0)
    assert float(((samples.mean(0) - measurement.truth[0, 0]) / (sd / 39)).abs().max()) > 5  # negative control


def test_orders_are_told_apart():
    """The order of the largest evidence is taken, and it is one of those that were asked for."""
    measurement = counts(line(60, 1.5), 2)
    chosen = fit_latent_prior(measurement).provenance["fit"]
    alone = {nu: fit_latent_prior(measurement, nu=nu).provenance["fit"] for nu in latent_fit.ORDERS}
    best = max(alone, key=lambda nu: alone[nu]["log_evidence"])
    assert abs(chosen["log_evidence"] - alone[best]["log_evidence"]) < 0.2
    assert min(fit["log_evidence"] for fit in alone.values()) < chosen["log_evidence"] - 0.2


def test_softplus_with_gaussian_noise_in_units():
    """The same fit, within the tolerance of its search, whatever the units of the coordinates; the mean is that of the
    latent field."""
    measurement = counts(line(60, 3.0), 4, link="softplus", noise=GaussianNoise(0.01), mean=-0.5)
    prior = fit_latent_prior(measurement, nu=NU)
    axis = measurement.grid.axes[0]
    longer = Grid((Axis("x", tuple(1000 * c for c in axis.coordinates), "m"),))
    operator = build_operator({"name": "softplus"}, {}, longer, 1)
    other = fit_latent_prior(replace(measurement, grid=longer, operator=operator), nu=NU)
    fit, scaled = prior.provenance["fit"], other.provenance["fit"]
    assert math.isclose(scaled["length"], 1000 * fit["length"], rel_tol=0.1)
    assert math.isclose(scaled["sd"], fit["sd"], rel_tol=0.1) and abs(math.log(fit["sd"] / SD)) < 0.7
    latent = torch.log(torch.expm1(measurement.y.clamp_min(0.05)))
    assert abs(float(prior.standardisation.shift) - float(latent.mean())) < 0.7


def test_scattered_points_and_uneven_axes():
    places = np.random.default_rng(0).random((100, 2))
    grid = PointSet(tuple(map(tuple, places.tolist())), ("y", "x"))
    measurement = counts(grid, 6, length=0.3, mean=2.0)
    prior = fit_latent_prior(measurement, nu=NU)
    fit = prior.provenance["fit"]
    assert abs(math.log(fit["length"] / 0.3)) < 4 * fit["errors"][1] and abs(math.log(fit["sd"] / SD)) < 1
    uneven = Grid((Axis("x", tuple((np.arange(80) / 80) ** 1.5 * 2)),))
    fit = fit_latent_prior(counts(uneven, 7), nu=NU).provenance["fit"]
    assert abs(math.log(fit["sd"] / SD)) < 1 and 0.2 < fit["length"] / LENGTH < 5
    posterior = FAPS()(prior, measurement, 4, SampleStreams(0, range(4)))
    assert posterior.diagnostics["chi_square"] < 2


def test_a_run_without_a_prior_takes_it():
    measurement = counts(line(60), 8)
    chosen = choose_prior("matern-3/2", measurement)
    assert chosen.fitted and chosen.prior.name.startswith("Gaussian of the field, fitted to the data by Laplace's")
    assert chosen.sha256 == choose_prior("matern-3/2", measurement).sha256
    posterior = FAPS()(chosen.prior, measurement, 4, SampleStreams(0, range(4)))
    assert posterior.samples.shape == (4, 1, 60) and 0.5 < posterior.diagnostics["chi_square"] < 1.5


def test_data_that_no_constant_field_allows_are_refused():
    """Counts on rays that miss the image, without background: probability 0, and no backend's error."""
    axes = tuple(Axis(name, tuple(10.0 * (np.arange(4) - 1.5)), "mm") for name in ("y", "x"))
    projection = {"name": "projection", "parameters": {"angles": 4, "bins": 9, "bin_width": 10.0}}
    description = {"name": "compose", "operators": [projection, {"name": "exp"}]}
    operator = build_operator(description, {}, grid := Grid(axes), 1)
    y = torch.ones(1, 1, 4, 9, dtype=torch.float64)
    m = Measurement(y=y, operator=operator, noise=PoissonNoise(1.0), grid=grid, units="1", description=description)
    with pytest.raises(InfieldError, match="data that no constant field explains"):
        fit_latent_prior(m)


def test_what_cannot_be_fitted_is_said():
    measurement = counts(line(60), 9)
    with pytest.raises(InfieldError, match="60 counts, all zero"):
        fit_latent_prior(replace(measurement, y=torch.zeros_like(measurement.y)))
    flat = torch.full_like(measurement.y, 4.0)  # less than counts of one rate would scatter
    with pytest.raises(InfieldError, match="no more than a constant field and their noise"):
        fit_latent_prior(replace(measurement, y=flat), nu=NU)
    noise = LowRankGaussianNoise(0.1, torch.ones((1, 1, 60), dtype=torch.float64))
    with pytest.raises(InfieldError, match="found noise LowRankGaussianNoise, expected a law of independent errors"):
        fit_latent_prior(replace(measurement, noise=noise), nu=NU)
    axes = (Axis("t", tuple(map(float, range(10))), "days"), Axis("x", tuple(map(float, range(6))), "m"))
    with pytest.raises(InfieldError, match="axes in days and m, expected one unit"):
        fit_latent_prior(counts(Grid(axes), 9, length=2.0), nu=NU)
