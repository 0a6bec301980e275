"""Priors and measurements in the coordinates of deepinv's samplers, and its samplers on them."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
import torch

from infield import InfieldError
from infield.core.grid import Grid
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import GaussianNoise, PoissonNoise
from infield.physics.operators.registry import build_operator
from infield.pipelines.bench import deepinv_peers
from infield.posterior.diagnostics.calibration import mean_error
from infield.posterior.interop.deepinv import (
    DeepinvDenoiser,
    UnitRange,
    WhitenedProblem,
    to_decomposable_physics,
    to_physics,
)
from infield.posterior.samplers.exact import Exact, posterior_mean
from infield.priors.base import denoise
from infield.priors.covariance.modes import Eigenbasis
from infield.priors.gaussian.kernels import Matern, White
from infield.priors.gaussian.prior import gaussian_prior

GRID = Grid.regular((10, 12), 1.0, periodic=True)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0):
    return torch.randn(shape, generator=rng(seed), dtype=torch.float64)


def prior_of(source):
    return gaussian_prior(Matern(1.5, 0.3), GRID, source=source).in_units(5.0, 2.0)


SOURCES = {"white": None, "white, in pixels": White(), "matern": Matern(0.5, 0.2)}


def masked(prior, variance=0.04, noise=None):
    mask = torch.rand(GRID.shape, generator=rng(1)) < 0.5
    operator = build_operator({"name": "mask", "arrays": {"mask": "m"}}, {"m": mask.numpy()}, GRID, 1)
    truth = 5 + 2 * prior.covariance.sample(1, rng(2))
    noise = noise or GaussianNoise(variance)
    y = operator.A(truth) + 0.2 * randn(1, 1, *GRID.shape, seed=3)
    return Measurement(y=y, operator=operator, noise=noise, grid=GRID, truth=truth)


def phases(prior):
    description = {"name": "phases", "parameters": {"low": 0.0, "high": 1.0, "width": 0.5}}
    operator = build_operator(description, {}, GRID, 1)
    return Measurement(y=randn(1, 1, *GRID.shape), operator=operator, noise=GaussianNoise(0.04), grid=GRID)


@pytest.mark.parametrize("source", sorted(SOURCES))
@pytest.mark.parametrize("unit", [False, True])
def test_it_is_the_same_problem(source, unit):
    prior = prior_of(SOURCES[source])
    measurement = masked(prior)
    white = WhitenedProblem(prior, measurement)
    problem = UnitRange(white) if unit else white
    u = 0.5 + 0.1 * randn(3, *problem.shape)
    x = problem.fields(u)
    torch.testing.assert_close(problem.y - problem.A(u), measurement.residual(x), atol=1e-9, rtol=1e-7)
    v = randn(3, *problem.y.shape[1:], seed=4)
    torch.testing.assert_close((problem.A(u) * v).sum(), (u * problem.A_adjoint(v)).sum())
    sigma = 0.1
    clean = problem.fields(problem.denoise(u, sigma))
    s = 2 * problem.a * sigma if unit else sigma
    t = 1 / (1 + s)
    x_t = t * white.colour(problem.u(u) if unit else u)
    torch.testing.assert_close(clean, prior.standardisation.to_units(denoise(prior, x_t, t)))
    assert unit is False or torch.equal(problem.denoise(u, 0.0), u)
    wrong = prior.standardisation.to_units(denoise(prior, x_t, 1 - t))
    assert (wrong - clean).abs().max() > 0.01  # negative control: another noise level


def test_where_the_source_is_white_an_image_is_the_field():
    for source in ("white", "white, in pixels"):
        prior = prior_of(SOURCES[source])
        problem = UnitRange(WhitenedProblem(prior, masked(prior)), reach=4.0)
        w = torch.rand((2, *problem.shape), generator=rng(), dtype=torch.float64)
        torch.testing.assert_close(problem.fields(w), 5 + 2 * problem.a * (2 * w - 1))
        assert problem.a == pytest.approx(4.0, rel=0.1)
        inside = prior.covariance.sample(200, rng(1))
        assert (inside.abs() < problem.a).double().mean() > 0.999


def test_an_image_is_the_field_in_eigenvectors_too():
    """Of a white source, in modes that LAPACK chose; and of a dense one C_0^{1/2} of it, by its symmetric root."""
    grid = Grid.regular((5, 5), (1.0, 1.0))
    w = torch.rand((2, 1, 5, 5), generator=rng(), dtype=torch.float64)
    for source in (White(), Matern(nu=0.5, length=0.3)):
        prior = gaussian_prior(Matern(nu=1.5, length=0.3), grid, source=None if source == White() else source)
        assert isinstance(prior.source.modes, Eigenbasis)
        operator = build_operator({"name": "mask", "arrays": {"mask": "m"}}, {"m": np.eye(5) > 0}, grid, 1)
        y = operator.A(torch.ones(1, 1, 5, 5, dtype=torch.float64))
        measurement = Measurement(y=y, operator=operator, noise=GaussianNoise(0.04), grid=grid)
        problem = UnitRange(WhitenedProblem(prior, measurement))
        unit = torch.eye(25, dtype=torch.float64).reshape(25, 1, 5, 5)
        values, V = torch.linalg.eigh(prior.source.apply(unit).flatten(1))
        root = (V * values.clamp_min(0).sqrt()) @ V.mT
        expected = (problem.a * (2 * w - 1)).flatten(1) @ root
        torch.testing.assert_close(problem.fields(w).flatten(1), expected)
        torch.testing.assert_close(problem.y - problem.A(w), measurement.residual(problem.fields(w)))
        v = torch.randn(problem.y.shape, generator=rng(1), dtype=torch.float64)
        torch.testing.assert_close((problem.A(w[:1]) * v).sum(), (w[:1] * problem.A_adjoint(v)).sum())


def test_nonlinear_operators_are_differentiated():
    prior = prior_of(SOURCES["matern"])
    measurement = phases(prior)
    problem = UnitRange(WhitenedProblem(prior, measurement))
    w, v, step = 0.5 + 0.05 * randn(2, *problem.shape), randn(2, *problem.y.shape[1:], seed=1), 1e-6
    torch.testing.assert_close(problem.y - problem.A(w), measurement.residual(problem.fields(w)))
    slope = (problem.A(w + step * w.cos()) - problem.A(w - step * w.cos())) / (2 * step)
    torch.testing.assert_close((slope * v).sum(), (w.cos() * problem.A_vjp(w, v)).sum(), rtol=1e-5, atol=1e-8)
    with pytest.raises(InfieldError, match="nonlinear"):
        to_decomposable_physics(problem)


def test_data_of_different_noise_are_weighted():
    prior = prior_of(None)
    variance = 0.01 + torch.rand(GRID.shape, generator=rng(7), dtype=torch.float64)
    measurement = masked(prior, noise=GaussianNoise(variance[None]))
    problem = WhitenedProblem(prior, measurement)
    u = randn(2, *problem.shape)
    residual = (problem.y - problem.A(u)) / problem.noise_std
    torch.testing.assert_close(residual, measurement.residual(problem.fields(u)) / variance.sqrt())
    v = randn(2, *problem.y.shape[1:], seed=1)
    torch.testing.assert_close((problem.A(u) * v).sum(), (u * problem.A_adjoint(v)).sum())
    with pytest.raises(InfieldError, match="Gaussian noise that can be whitened"):
        WhitenedProblem(prior, masked(prior, noise=PoissonNoise(1.0)))


def test_singular_values():
    prior = prior_of(SOURCES["matern"])
    problem = UnitRange(WhitenedProblem(prior, masked(prior)))
    physics = to_decomposable_physics(problem)
    x, y = randn(2, *problem.shape), randn(2, *problem.y.shape[1:], seed=1)
    torch.testing.assert_close(physics.A(x), problem.A(x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(physics.A_adjoint(y), problem.A_adjoint(y), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(physics.V(physics.V_adjoint(x)), x)
    torch.testing.assert_close(physics.V_adjoint(physics.V(x)), x)
    c = physics.U_adjoint(y)
    torch.testing.assert_close(physics.U_adjoint(physics.U(c)), c)
    seen = int(problem.problem.operator.observed.sum())
    assert int((physics.mask > 1e-3).sum()) == seen


def test_deepinv_accepts_them():
    prior = prior_of(None)
    problem = UnitRange(WhitenedProblem(prior, masked(prior)))
    physics, network = to_physics(problem), DeepinvDenoiser(problem.denoise)
    x = torch.rand((2, *problem.shape), generator=rng(), dtype=torch.float64)
    assert physics.adjointness_test(x).abs() < 1e-8
    torch.testing.assert_close(network(x, 0.1), network(x, torch.tensor([0.1, 0.1])))


PEERS = {
    "moment_matching": (deepinv_peers.moment_matching, 60, 0.6),
    "dps, tuned": (partial(deepinv_peers.dps, weight=8.0), 150, 1.1),
    "diffpir": (deepinv_peers.diffpir, 100, 1.2),
    "ddrm": (deepinv_peers.ddrm, 200, 0.8),
}


@pytest.mark.parametrize("name", sorted(PEERS))
def test_its_samplers_find_the_posterior_mean(name):
    """Within what each of them can, 0.4 being the Monte Carlo error of six draws; without data it is far off."""
    peer, steps, bound = PEERS[name]
    prior = prior_of(SOURCES["matern"])
    measurement = masked(prior)
    mean, std = posterior_mean(prior, measurement), Exact()(prior, measurement, 200, rng(4)).samples.std(0)
    problem = WhitenedProblem(prior, measurement)
    problem = problem if name == "moment_matching" else UnitRange(problem)
    draws = problem.fields(peer(problem, 6, 1, steps))
    without = mean_error(torch.full_like(draws, 5.0), mean, std)
    assert mean_error(draws, mean, std) < bound < without / 2
    again = problem.fields(peer(problem, 6, 1, steps))
    torch.testing.assert_close(again, draws)
    assert problem.calls(1)["velocity_calls"] >= 6 * (steps - 1)
