"""Elliptical slice sampling in source space beside posteriors that are known, and chains that mix badly and say so."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy import stats
from torch import Tensor

from infield import InfieldError
from infield.core._deepinv import Physics
from infield.core.grid import Grid
from infield.core.randomness import SampleStreams
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import GaussianNoise, PoissonNoise
from infield.physics.operators.registry import build_operator
from infield.posterior.diagnostics.calibration import gaussian_z_scores, sliced_wasserstein
from infield.posterior.inference.linear_gaussian import LinearGaussianData
from infield.posterior.samplers.elliptical_slice import EllipticalSlice
from infield.posterior.samplers.exact import Exact
from infield.priors.base import FlowPrior, flow
from infield.priors.gaussian.kernels import Matern, White
from infield.priors.gaussian.mixture import MixturePrior
from infield.priors.gaussian.prior import GaussianPrior, gaussian_prior

DRAWS = 2000
THRESHOLD = 4.5
GRID = Grid.regular((5,), 1.0)


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def at_points(y: list[float], noise: float, index: tuple[int, ...] = (1, 3)) -> Measurement:
    arrays = {"indices": np.array(index)}
    description = {"name": "points", "arrays": {"indices": "indices"}}
    data = torch.tensor(y, dtype=torch.float64)[None, None]
    return Measurement(y=data, operator=build_operator(description, arrays, GRID, 1), noise=GaussianNoise(noise),
                       grid=GRID, description=description, arrays=arrays)  # fmt: skip


def smooth_prior() -> GaussianPrior:
    prior = gaussian_prior(Matern(1.5, 0.4), GRID, source=Matern(0.5, 0.1))
    return replace(prior, mean=torch.linspace(-0.5, 0.5, 5, dtype=torch.float64)[None]).in_units(1.0, 2.0)


def posterior_law(m: Tensor, C: Tensor, measurement: Measurement) -> tuple[Tensor, Tensor]:
    """Mean and covariance in units, for a standardised Gaussian field N(m, C) of shift 1 and scale 2."""
    m, C = 1 + 2 * m, 4 * C
    A = measurement.operator.A(torch.eye(5, dtype=torch.float64)[:, None]).flatten(1).mT
    R = measurement.noise.variance * torch.eye(len(A), dtype=torch.float64)
    gain = torch.linalg.solve(A @ C @ A.mT + R, A @ C).mT
    return m + gain @ (measurement.y.flatten() - A @ m), C - gain @ A @ C


def law_of_flow(prior: GaussianPrior, steps: int) -> tuple[Tensor, Tensor]:
    """Mean and covariance of Phi(x_0), which is affine for a Gaussian prior."""
    unit = torch.eye(5, dtype=torch.float64)[:, None]
    offset = flow(prior, torch.zeros_like(unit[:1]), steps)
    E = (flow(prior, unit, steps) - offset).flatten(1).mT
    return offset.flatten(), E @ prior.source.apply(unit).flatten(1) @ E.mT


def z_of(x: Tensor, law: tuple[Tensor, Tensor]) -> float:
    z = gaussian_z_scores(x.flatten(1), *law)
    return max(z.mean, z.covariance)


@pytest.mark.parametrize(("steps", "rungs"), [(3, 1), (3, 4), (12, 1)])
def test_draws_have_the_posterior_of_the_discretised_flow_exactly(steps, rungs):
    prior, measurement = smooth_prior(), at_points([2.5, -1.0], 0.3)
    if steps == 3:  # modes that depend on each other: three steps are not exact
        C, factor = prior.covariance, torch.tensor([[[2.0, -1.5, 1.0, 1.5, -1.0]]], dtype=torch.float64)
        prior = replace(prior, covariance=replace(C, factors=factor))
    sampler = EllipticalSlice(burn_in=30, draws=4, thin=1, rungs=rungs, flow_steps=steps)
    x = sampler(prior, measurement, DRAWS, rng(0)).samples
    assert z_of(x, posterior_law(*law_of_flow(prior, steps), measurement)) < THRESHOLD
    unit = torch.eye(5, dtype=torch.float64)[:, None]
    true = posterior_law(prior.mean.flatten(), prior.covariance.apply(unit).flatten(1), measurement)
    if steps == 12:
        assert z_of(x, true) < THRESHOLD
    else:  # three steps are another prior, and the same check sees it
        assert z_of(x, true) > 2 * THRESHOLD


def test_chains_that_stop_too_early_are_rejected():
    prior, measurement = smooth_prior(), at_points([2.5, -1.0], 0.05)
    unit = torch.eye(5, dtype=torch.float64)[:, None]
    law = posterior_law(prior.mean.flatten(), prior.covariance.apply(unit).flatten(1), measurement)
    posterior = EllipticalSlice(burn_in=0, draws=4, thin=1)(prior, measurement, DRAWS, rng(0))
    assert z_of(posterior.samples, law) > 2 * THRESHOLD
    assert posterior.diagnostics["r_hat_max"] > 1.2


class Square(Physics):
    """Sees the square of a field, and not its sign."""

    def A(self, x: Tensor, **kwargs: object) -> Tensor:
        return x**2


def signs() -> tuple[FlowPrior, Measurement]:
    """Four independent u ~ N(0.2, 1), of each of which u^2 = 2.5 +- 0.3 is known: 16 modes of unequal weight."""
    grid = Grid.regular((4,), 1.0)
    y = torch.full((1, 1, 4), 2.5, dtype=torch.float64)
    prior = gaussian_prior(White(), grid).in_units(0.2, 1.0)  # Phi is the identity, in one step
    return prior, Measurement(y=y, operator=Square(), noise=GaussianNoise(0.09), grid=grid)


def distance_to_quadrature(x: Tensor) -> float:
    """Largest gap between the distribution functions of draws of one value and of its posterior under `signs`."""
    u = np.linspace(-4, 4, 20_001)
    density = stats.norm.pdf(u, 0.2, 1) * stats.norm.pdf(u**2, 2.5, 0.3)
    cdf = np.cumsum(density) / density.sum()
    return float(stats.kstest(x.numpy(), lambda z: np.interp(z, u, cdf)).statistic)


@pytest.mark.slow
def test_modes_get_their_weights_from_replicas_and_not_from_single_chains():
    """A single chain keeps the signs with which it began, and R-hat says so."""
    prior, measurement = signs()
    single = EllipticalSlice(chains=40, burn_in=20, draws=50, thin=1, flow_steps=1)
    alone = single(prior, measurement, 2000, rng(2)).diagnostics
    assert alone["r_hat_max"] > 1.3 and alone["ess_min"] < 200
    posterior = replace(single, rungs=10, thin=10)(prior, measurement, 2000, rng(2))
    found, x = posterior.diagnostics, posterior.samples.flatten(1)
    assert found["r_hat_max"] < 1.1 and found["ess_min"] > 300 and found["swap_acceptance"] > 0.2
    critical = 1.95 / found["ess_min"] ** 0.5  # of the Kolmogorov distance at 0.1 %
    assert all(distance_to_quadrature(value) < critical for value in x.mT)
    assert distance_to_quadrature(x[:, 0] + 0.1) > critical


@pytest.mark.slow
def test_a_mixture_of_fields_gets_its_exact_posterior():
    """Two fields, rough about -1 and smooth about 1, and data between them."""
    parts = []
    for mean, length in ((-1.0, 0.1), (1.0, 1.0)):
        part = gaussian_prior(Matern(1.5, length, 0.3), GRID, source=Matern(0.5, 0.1))
        parts.append(replace(part, mean=torch.full((1, 5), mean, dtype=torch.float64)))
    prior = MixturePrior(tuple(parts), torch.tensor([0.5, 0.5], dtype=torch.float64))
    measurement = at_points([0.0, -0.1], 0.25)
    exact = Exact()(prior, measurement, 2000, rng(3)).samples
    sampler = EllipticalSlice(chains=40, burn_in=20, draws=50, thin=2, rungs=6, flow_steps=20)
    found = sampler(prior, measurement, 2000, rng(2))
    assert found.diagnostics["r_hat_max"] < 1.05 and found.diagnostics["ess_min"] > 1000
    share, expected = (float((x.mean((1, 2)) > 0).double().mean()) for x in (found.samples, exact))
    assert abs(share - expected) < 4 * (0.25 / 1000 + 0.25 / 2000) ** 0.5
    assert sliced_wasserstein(found.samples, exact, rng(4)) < 0.1 * float(exact.std())
    data = LinearGaussianData(measurement, prior.source.modes)
    evidence = torch.stack([data.log_evidence(part.mean, part.covariance) for part in parts])
    assert found.diagnostics["log_evidence"] == pytest.approx(float(evidence.exp().mean().log()), abs=0.1)


def test_evidence_of_the_ladder_is_the_closed_form():
    prior, measurement = smooth_prior(), at_points([2.5, -1.0], 0.05)
    m, C = law_of_flow(prior, 2)
    place = measurement.operator.A(torch.eye(5, dtype=torch.float64)[:, None]).flatten(1).mT
    spread = 4 * place @ C @ place.mT + 0.05 * torch.eye(2, dtype=torch.float64)
    expected = stats.multivariate_normal(place @ (1 + 2 * m), spread).logpdf(measurement.y.flatten())
    sampler = EllipticalSlice(chains=200, burn_in=20, draws=40, thin=1, rungs=8, flow_steps=2)
    found = sampler(prior, measurement, 200, rng(0)).diagnostics["log_evidence"]
    assert found == pytest.approx(expected, abs=0.1)


def test_counts_have_the_posterior_of_quadrature():
    grid = Grid.regular((1,), 1.0)
    prior = gaussian_prior(Matern(1.5, 0.4), grid).in_units(4.0, 2.0)
    description = {"name": "mask", "arrays": {"mask": "mask"}}
    arrays = {"mask": np.array([True])}
    measurement = Measurement(
        y=torch.full((1, 1, 1), 7.0, dtype=torch.float64), operator=build_operator(description, arrays, grid, 1),
        noise=PoissonNoise(1.0), grid=grid, description=description, arrays=arrays,
    )  # fmt: skip
    x = EllipticalSlice(burn_in=20, draws=4, thin=1, flow_steps=12)(prior, measurement, DRAWS, rng(0)).samples.flatten()
    rate = np.linspace(1e-6, 20, 20_001)
    density = stats.norm.pdf(rate, 4, 2) * stats.poisson.pmf(7, rate)
    cdf = np.cumsum(density) / density.sum()
    assert stats.kstest(x.numpy(), lambda z: np.interp(z, rate, cdf)).pvalue > 1e-3
    assert stats.kstest(x.numpy(), lambda z: stats.norm.cdf(z, 4, 2)).pvalue < 1e-6  # the prior is another law


@pytest.mark.parametrize("rungs", [1, 3])
def test_sample_i_does_not_depend_on_its_company(rungs):
    prior, measurement = smooth_prior(), at_points([2.5, -1.0], 0.3)
    sampler = EllipticalSlice(chains=2, burn_in=5, draws=4, thin=1, rungs=rungs, flow_steps=4)

    def samples(indices: list[int]) -> Tensor:
        return sampler(prior, measurement, len(indices), SampleStreams(3, indices)).samples

    together = samples([0, 1, 2, 3])
    torch.testing.assert_close(samples([2, 0]), together[[2, 0]], rtol=0, atol=1e-9)
    torch.testing.assert_close(samples([3]), together[[3]], rtol=0, atol=1e-9)


def test_chains_share_the_samples_among_them_and_the_cost_is_counted():
    prior, measurement = smooth_prior(), at_points([2.5, -1.0], 0.3)
    sampler = EllipticalSlice(chains=4, burn_in=3, draws=4, thin=2, flow_steps=3)
    posterior = sampler(prior, measurement, 22, rng(0))
    assert posterior.samples.shape == (22, 1, 5)
    sweeps = 3 + 6 * 2  # 22 samples of 4 chains are 6 records each
    likelihoods = 4 * (1 + sweeps * posterior.diagnostics["likelihoods_a_sweep"]) - 4
    assert posterior.cost["velocity_calls"] * 22 == pytest.approx(likelihoods * 3)  # one velocity a step
    assert posterior.cost["operator_calls"] * 22 == pytest.approx(likelihoods)


def test_a_field_that_diverges_is_an_error_that_names_its_sample():
    prior, measurement = smooth_prior(), at_points([2.5, -1.0], 0.3)

    class Diverging:
        def __getattr__(self, name: str) -> object:
            return getattr(prior, name)

        def velocity(self, x: Tensor, t: float) -> Tensor:
            return torch.where(torch.arange(len(x))[:, None, None] == 2, torch.nan, x)

    with pytest.raises(InfieldError, match="chain of sample 2"):
        EllipticalSlice(flow_steps=2).draw(Diverging(), measurement, 4, rng(0))
    with pytest.raises(InfieldError, match="chain of sample 9"):
        EllipticalSlice(flow_steps=2).draw(Diverging(), measurement, 3, SampleStreams(0, [7, 8, 9]))


@pytest.mark.parametrize("wrong", [{"chains": 0}, {"draws": 3}, {"rungs": 0}, {"power": 0.0}, {"flow_steps": 0}])
def test_wrong_parameters_are_refused(wrong):
    with pytest.raises(InfieldError, match=f"found {next(iter(wrong))}"):
        EllipticalSlice(**wrong)
