"""Langevin chains over the source of a flow beside posteriors that are known."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from infield import InfieldError
from infield.physics.grid import Grid
from infield.physics.measurement import Measurement
from infield.physics.noise import GaussianNoise
from infield.physics.registry import build_operator
from infield.posterior.calibration import gaussian_z_scores, mean_error, std_ratio
from infield.posterior.exact import Exact, posterior_mean
from infield.posterior.source_langevin import SourceLangevin, _Flow
from infield.posterior.source_slice import flow
from infield.posterior.streams import SampleStreams
from infield.priors.gaussian import GaussianPrior, gaussian_prior
from infield.priors.mixture import MixturePrior
from infield.priors.source import Matern

DRAWS, THRESHOLD = 3000, 4.5
GRID = Grid.regular((6,), 1.0)


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def at_points(y: list[float], noise: float, index: tuple[int, ...] = (1, 4)) -> Measurement:
    arrays = {"indices": np.array(index)}
    operator = build_operator({"name": "points", "arrays": {"indices": "indices"}}, arrays, GRID, 1)
    data = torch.tensor(y, dtype=torch.float64)[None, None]
    return Measurement(y=data, operator=operator, noise=GaussianNoise(noise), grid=GRID)


def smooth_prior() -> GaussianPrior:
    prior = gaussian_prior(Matern(1.5, 0.4), GRID, source=Matern(0.5, 0.1))
    return replace(prior, mean=torch.linspace(-0.5, 0.5, 6, dtype=torch.float64)[None]).in_units(1.0, 2.0)


def law(prior: GaussianPrior, measurement: Measurement, steps: int) -> tuple[Tensor, Tensor]:
    """Mean and covariance in units of Phi(x_0) | y, for a flow that is affine."""
    unit = torch.eye(6, dtype=torch.float64)[:, None]
    offset = flow(prior, torch.zeros_like(unit[:1]), steps)
    E = (flow(prior, unit, steps) - offset).flatten(1).mT
    m, C = 1 + 2 * offset.flatten(), 4 * E @ prior.source.apply(unit).flatten(1) @ E.mT
    A = measurement.operator.A(unit).flatten(1).mT
    R = measurement.noise.variance * torch.eye(len(A), dtype=torch.float64)
    gain = torch.linalg.solve(A @ C @ A.mT + R, A @ C).mT
    return m + gain @ (measurement.y.flatten() - A @ m), C - gain @ A @ C


@pytest.mark.parametrize("steps", [2, 12])
def test_draws_have_the_posterior_of_the_discretised_flow(steps):
    prior, measurement = smooth_prior(), at_points([2.5, -1.0], 0.3)
    posterior = SourceLangevin(steps=3, flow_steps=steps)(prior, measurement, DRAWS, rng(0))
    z = gaussian_z_scores(posterior.samples.flatten(1), *law(prior, measurement, steps))
    assert max(z.mean, z.covariance) < THRESHOLD, z
    assert posterior.diagnostics["acceptance"] > 1 - 1e-3  # linear data: the linearisation is the posterior
    other = law(prior, measurement, 1)  # another flow is another prior, and the same check sees it
    z = gaussian_z_scores(posterior.samples.flatten(1), *other)
    assert max(z.mean, z.covariance) > 2 * THRESHOLD


def mixture() -> MixturePrior:
    """Two laws that differ in mean and length, near enough for a chain to pass from one to the other."""
    source = Matern(0.5, 0.1)
    parts = [gaussian_prior(Matern(1.5, length), GRID, source=source) for length in (0.15, 0.8)]
    parts[1] = replace(parts[1], mean=torch.full((1, 6), 1.2, dtype=torch.float64))
    return MixturePrior(tuple(parts), torch.tensor([0.5, 0.5]))


def test_draws_of_a_prior_that_is_not_gaussian():
    prior, measurement = mixture(), at_points([0.9], 0.3, (3,))
    exact = Exact()(prior, measurement, 20000, rng(1)).samples
    mean, std = posterior_mean(prior, measurement), exact.std(0)

    def errors(x: Tensor) -> tuple[float, float]:
        return mean_error(x, mean, std), abs(std_ratio(x, exact) - 1)

    chains = SourceLangevin(steps=80, flow_steps=12)(prior, measurement, DRAWS, rng(2))
    assert max(errors(chains.samples)) < 0.06, errors(chains.samples)
    assert 0.3 < chains.diagnostics["acceptance"] < 1
    start = SourceLangevin(steps=1, flow_steps=12)(prior, measurement, DRAWS, rng(2))
    assert max(errors(start.samples)) > 0.06, errors(start.samples)  # the linearised posterior is not enough


def test_the_derivative_of_the_flow_does_not_depend_on_how_it_is_cut():
    prior = mixture()
    x = prior.source.sample(5, rng(0)).requires_grad_()
    v = torch.randn(5, 1, 6, generator=rng(1), dtype=torch.float64)
    gradients = []
    with torch.enable_grad():
        for values in (12, 30):
            y = _Flow(prior, 4, values)(x)
            gradients += [y.detach(), torch.autograd.grad(y, x, v)[0]]
        gradients += [flow(prior, x, 4).detach(), torch.autograd.grad(flow(prior, x, 4), x, v)[0]]
    for i in (0, 1):
        torch.testing.assert_close(gradients[i], gradients[i + 2])
        torch.testing.assert_close(gradients[i], gradients[i + 4])


def test_cost_and_streams():
    prior, measurement = mixture(), at_points([0.9], 0.3, (3,))

    def cost(steps: int) -> dict[str, float]:
        return SourceLangevin(steps=steps, flow_steps=3)(prior, measurement, 4, rng(0)).cost

    more, less = cost(9), cost(4)
    assert more["operator_calls"] - less["operator_calls"] == pytest.approx(5 * 2)
    assert more["velocity_calls"] - less["velocity_calls"] >= 5 * 5
    sampler = SourceLangevin(steps=6, flow_steps=3)
    together = sampler(prior, measurement, 4, SampleStreams(9, [0, 1, 2, 3])).samples
    alone = sampler(prior, measurement, 1, SampleStreams(9, [2])).samples
    torch.testing.assert_close(alone[0], together[2], rtol=1e-8, atol=1e-8)


def test_wrong_parameters_are_refused():
    with pytest.raises(InfieldError, match="source-langevin: found flow_steps=0"):
        SourceLangevin(flow_steps=0)
