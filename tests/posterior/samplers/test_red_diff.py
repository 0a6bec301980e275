"""RED-Diff: the paper's gradient in our words, a mode and not a posterior, any data, samples that stand alone."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from infield import InfieldError
from infield.core.grid import Grid
from infield.core.randomness import SampleStreams
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import GaussianNoise, PoissonNoise
from infield.physics.operators.registry import build_operator
from infield.posterior.diagnostics.calibration import mean_error, std_ratio
from infield.posterior.samplers.exact import Exact, posterior_mean
from infield.posterior.samplers.red_diff import WEIGHTINGS, REDDiff, regulariser
from infield.priors.base import denoise, score
from infield.priors.gaussian.kernels import Matern, White
from infield.priors.gaussian.prior import gaussian_prior
from infield.priors.storage.from_yaml import prior_from_description

GRID = Grid.regular((48,), 1.0, periodic=True)
SOURCES = {"white": White(2.0), "matern": Matern(nu=0.5, length=0.1)}


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def mixture(source):
    components = [{"law": {"law": "matern", "nu": 1.5, "length": length}} for length in (0.05, 0.4)]
    return prior_from_description(
        {"prior": "mixture", "components": components, "source": {"law": "matern", "nu": source.nu, "length": 0.1}},
        GRID,
        1,
    )


def masked(prior, variance=0.01, share=0.5, seed=1):
    mask = torch.rand(GRID.shape, generator=rng(seed)) < share
    arrays = {"mask": mask.numpy()}
    description = {"name": "mask", "arrays": {"mask": "mask"}}
    operator = build_operator(description, arrays, GRID, 1)
    truth = prior.covariance.sample(1, rng(seed + 1))
    noise = GaussianNoise(variance)
    return Measurement(
        y=noise.sample(operator.A(truth), rng(seed + 2)), operator=operator, noise=noise, grid=GRID, truth=truth
    )


@pytest.mark.parametrize("t", [0.02, 0.5, 0.98])
@pytest.mark.parametrize("weighting", sorted(WEIGHTINGS))
def test_the_regulariser_is_the_papers_gradient_where_the_source_is_white(t, weighting):
    """w_t (eps_theta - eps), eps_theta from the score: -sigma_t times the score of the whitened field."""
    prior = mixture(SOURCES["matern"])
    C_0, f = prior.source, WEIGHTINGS[weighting]
    root = C_0.diagonal.sqrt()
    mu = prior.components[0].covariance.sample(3, rng(1))
    eps = torch.randn(3, *C_0.event_shape, generator=rng(2), dtype=torch.float64)
    x_0 = C_0.modes.synthesise(root * eps)
    x_t = t * mu + (1 - t) * x_0
    eps_theta = -(1 - t) * root * C_0.modes.analyse(score(prior, x_t, t))
    papers = f((1 - t) / t) * (eps_theta - eps)
    ours = regulariser(prior, mu, x_0, t, weighting)
    torch.testing.assert_close(C_0.modes.analyse(ours), root * papers, rtol=1e-6, atol=1e-7)
    wrong = regulariser(prior, mu, x_0, 1 - t, weighting)  # negative control: the times of the paper
    assert t == 0.5 or (wrong - ours).abs().max() > 1e-2 * ours.abs().max()


def test_with_the_linear_weighting_every_level_weighs_the_same_in_the_field():
    prior = mixture(SOURCES["matern"])
    mu, x_0, t = prior.components[1].covariance.sample(2, rng(1)), prior.source.sample(2, rng(2)), 0.3
    x_t = t * mu + (1 - t) * x_0
    ours = regulariser(prior, mu, x_0, t)
    torch.testing.assert_close(ours, mu - denoise(prior, x_t, t))
    torch.testing.assert_close(ours, (1 - t) * (mu - x_0 - prior.velocity(x_t, t)))  # what the velocity is trained on


@pytest.mark.parametrize("source", sorted(SOURCES))
def test_its_mean_is_near_the_posteriors_and_its_spread_is_none(source):
    """Within 0.35 posterior standard deviations; less than 0.5 of the spread, where draws of the posterior have 1."""
    prior = gaussian_prior(Matern(nu=0.5, length=0.1), GRID, source=SOURCES[source])
    measurement = masked(prior)
    exact = Exact()(prior, measurement, 400, rng(5)).samples
    mean, std = posterior_mean(prior, measurement), exact.std(0)
    found = REDDiff()(prior, measurement, 8, SampleStreams(0, range(8)))
    assert mean_error(found.samples, mean, std) < 0.35
    assert std_ratio(found.samples, exact) < 0.5 < std_ratio(exact[:8], exact)
    assert "not a posterior" in found.caveat and Exact()(prior, measurement, 1, rng()).caveat is None
    assert found.cost["velocity_calls"] == 1000
    started = REDDiff(start="draw")(prior, measurement, 8, SampleStreams(0, range(8))).samples
    assert std_ratio(started, exact) < 0.7  # the start is forgotten, not kept as spread


@pytest.mark.parametrize("t", [0.2, 0.9])
def test_where_it_stands_still_under_a_gaussian_prior(t):
    """At the posterior mean under the covariance (SNR^2 C + C_0) / lambda; the gradient is linear in the noise."""
    prior, weight, variance = gaussian_prior(Matern(nu=0.5, length=0.1), GRID, source=White(2.0)), 3.0, 0.04
    prior = replace(prior, mean=torch.full_like(prior.mean, 0.5))
    measurement, eye = masked(prior, variance), torch.eye(48, dtype=torch.float64)[:, None]
    C, C_0 = prior.covariance.apply(eye)[:, 0], prior.source.apply(eye)[:, 0]
    widened = ((t / (1 - t)) ** 2 * C + C_0) / weight
    seen = measurement.operator.observed[0]
    A = torch.eye(48, dtype=torch.float64)[seen]
    gain = widened @ A.mT @ torch.linalg.inv(A @ widened @ A.mT + variance * torch.eye(len(A), dtype=torch.float64))
    mu = (0.5 + gain @ (measurement.y[0, 0][seen] - 0.5))[None, None]
    pull = weight * regulariser(prior, mu, torch.zeros_like(mu), t)
    torch.testing.assert_close(pull, prior.source.apply(measurement.gradient(mu)), rtol=1e-8, atol=1e-8)
    assert pull.abs().max() > 1e-2


def test_without_the_prior_it_is_least_squares():
    prior = gaussian_prior(Matern(nu=0.5, length=0.1), GRID, source=White())
    measurement = masked(prior)
    x = REDDiff(weight=0.0, steps=600)(prior, measurement, 1, rng()).samples
    seen = measurement.operator.observed
    torch.testing.assert_close(x[0][seen], measurement.y[0][seen], rtol=0, atol=1e-3)
    assert not x[0][~seen].any()


def test_a_sample_depends_on_seed_and_number_alone():
    prior, sampler = mixture(SOURCES["matern"]), REDDiff(steps=50, start="draw")
    measurement = masked(prior.components[0])
    together = sampler(prior, measurement, 4, SampleStreams(3, range(4))).samples
    alone = sampler(prior, measurement, 1, SampleStreams(3, [2])).samples
    torch.testing.assert_close(together[2:3], alone, rtol=1e-9, atol=1e-9)
    assert not torch.allclose(alone, sampler(prior, measurement, 1, SampleStreams(4, [2])).samples)


def test_counts_through_a_nonlinear_operator():
    """Poisson counts of two phases; with a small weight the last steps fit the noise, as the docstring says."""
    prior = gaussian_prior(Matern(nu=1.5, length=0.2), GRID, source=White())
    description = {"name": "phases", "parameters": {"low": 3.0, "high": 30.0, "width": 0.5}}
    operator, noise = build_operator(description, {}, GRID, 1), PoissonNoise(0.5)
    truth = prior.covariance.sample(1, rng(5))
    y = noise.sample(operator.A(truth), rng(6))
    measurement = Measurement(y=y, operator=operator, noise=noise, grid=GRID, truth=truth)
    found = REDDiff(steps=300, weight=100.0)(prior, measurement, 2, rng())
    error = (found.samples - truth).square().mean() / truth.square().mean()
    fits_noise = REDDiff(steps=300)(prior, measurement, 2, rng()).diagnostics["chi_square"]
    before = float(measurement.chi_square(torch.zeros_like(truth)))
    assert fits_noise < 0.1 < 0.4 < found.diagnostics["chi_square"] < 0.8 < before and error < 0.1


@pytest.mark.parametrize(
    "wrong",
    [{"steps": 0}, {"weight": -1.0}, {"rate": 0.0}, {"weighting": "cubic"}, {"start": "zero"}, {"beta_2": 1.0}],
)
def test_wrong_parameters_are_refused(wrong):
    with pytest.raises(InfieldError, match=next(iter(wrong))):
        REDDiff(**wrong)


def test_a_diverging_prior_is_named():
    prior = gaussian_prior(Matern(nu=0.5, length=0.1), GRID, source=White())
    broken = replace(prior, mean=torch.full_like(prior.mean, torch.nan))
    with pytest.raises(InfieldError, match="sample 7"):
        REDDiff(steps=1)(broken, masked(prior), 1, SampleStreams(0, [7]))
