"""The exact posterior of a mixture of Gaussians: its weights, its components and its moments."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import multivariate_normal
from torch import Tensor

from infield import InfieldError
from infield.core.grid import Grid
from infield.core.randomness import SampleStreams
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import GaussianNoise
from infield.physics.operators.registry import build_operator
from infield.posterior.diagnostics.calibration import gaussian_z_scores
from infield.posterior.samplers.exact import Exact, posterior_mean
from infield.posterior.samplers.faps import FAPS
from infield.priors.gaussian.kernels import Matern
from infield.priors.gaussian.mixture import MixturePrior
from infield.priors.gaussian.prior import GaussianPrior, gaussian_prior

DRAWS = 4000
THRESHOLD = 4.5
GRID = Grid.regular((6,), 1.0, periodic=True)


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mixture(weights: tuple[float, ...] = (0.5, 0.2, 0.3), apart: float = 6.0) -> MixturePrior:
    """Components whose means lie apart where nothing is measured, so that a draw shows which one it is of."""
    components = []
    for k in range(len(weights)):
        prior = gaussian_prior(Matern(1.5, 0.1 * (k + 1)), GRID, source=Matern(0.5, 0.1))
        mean = torch.tensor([[0.0, 0.2 * k, 0.0, apart * k, 0.0, -0.5 * k]], dtype=torch.float64)
        components.append(replace(prior.in_units(1.0, 2.0), mean=mean))
    return MixturePrior(tuple(components), torch.tensor(weights, dtype=torch.float64))


def observe(seed: int = 3) -> Measurement:
    arrays = {"indices": np.array([0, 2, 5])}
    description = {"name": "points", "arrays": {"indices": "indices"}}
    operator = build_operator(description, arrays, GRID, 1)
    truth = torch.tensor([[[1.5, 1.0, 0.5, 2.0, 0.0, 1.8]]], dtype=torch.float64)
    noise = GaussianNoise(0.5)
    y = noise.sample(operator.A(truth), rng(seed))
    return Measurement(y=y, operator=operator, noise=noise, grid=GRID, description=description, arrays=arrays)


def dense_component(prior: GaussianPrior, measurement: Measurement) -> tuple[Tensor, Tensor, float]:
    """Mean and covariance of one component given the data, and the log evidence, in the units of the field."""
    shift, scale = float(prior.standardisation.shift), float(prior.standardisation.scale)
    eye = torch.eye(6, dtype=torch.float64)[:, None]
    m, C = shift + scale * prior.mean.flatten(), scale**2 * prior.covariance.apply(eye)[:, 0]
    A, y = measurement.operator.A(eye).flatten(1).mT, measurement.y.flatten()
    G = A @ C @ A.mT + measurement.noise.variance * torch.eye(len(y), dtype=torch.float64)
    gain = torch.linalg.solve(G, A @ C).mT
    evidence = multivariate_normal((A @ m).numpy(), G.numpy()).logpdf(y.numpy())
    return m + gain @ (y - A @ m), C - gain @ A @ C, float(evidence)


def dense_posterior(prior: MixturePrior, measurement: Measurement) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    parts = [dense_component(component, measurement) for component in prior.components]
    log_weights = prior.weights.log() + torch.tensor([p[2] for p in parts])
    return torch.softmax(log_weights, 0), [p[0] for p in parts], [p[1] for p in parts]


def assign(x: Tensor, means: list[Tensor], covariances: list[Tensor]) -> Tensor:
    """The component that each draw is of, for components that hardly overlap."""
    logs = [
        multivariate_normal(m.numpy(), S.numpy()).logpdf(x.numpy()) for m, S in zip(means, covariances, strict=True)
    ]
    return torch.from_numpy(np.stack(logs).argmax(0))


def frequency_z(labels: Tensor, weights: Tensor) -> float:
    found = torch.bincount(labels, minlength=len(weights)) / len(labels)
    return float(((found - weights) / (weights * (1 - weights) / len(labels)).sqrt()).abs().max())


def test_components_come_as_often_as_the_evidence_says_and_have_their_own_moments():
    prior, measurement = mixture(), observe()
    weights, means, covariances = dense_posterior(prior, measurement)
    assert weights.min() > 0.02 and (weights - prior.weights).abs().max() > 0.05  # the data speak, but not alone
    x = Exact()(prior, measurement, DRAWS, rng(0)).samples.flatten(1)
    labels = assign(x, means, covariances)
    assert frequency_z(labels, weights) < THRESHOLD
    assert frequency_z(labels, prior.weights) > 2 * THRESHOLD  # the prior's weights, evidence forgotten
    for k in range(3):
        z = gaussian_z_scores(x[labels == k], means[k], covariances[k])
        assert z.mean < THRESHOLD and z.covariance < THRESHOLD, (k, z)
        wrong = gaussian_z_scores(x[labels == k], means[k], 1.3 * covariances[k])
        assert max(wrong.mean, wrong.covariance) > THRESHOLD


def moments(weights: Tensor, means: list[Tensor], covariances: list[Tensor]) -> tuple[Tensor, Tensor]:
    mean = sum(w * m for w, m in zip(weights, means, strict=True))
    parts = [w * (S + torch.outer(m - mean, m - mean)) for w, m, S in zip(weights, means, covariances, strict=True)]
    return mean, sum(parts)


def mean_z(x: Tensor, mean: Tensor, covariance: Tensor) -> float:
    return float(((x.mean(0) - mean) / (covariance.diagonal() / len(x)).sqrt()).abs().max())


def variance_z(x: Tensor, mean: Tensor, covariance: Tensor) -> float:
    squares = (x - mean).square()
    return float(((squares.mean(0) - covariance.diagonal()) / (squares.std(0) / math.sqrt(len(x)))).abs().max())


def test_moments_of_overlapping_components():
    prior, measurement = mixture(apart=0.8), observe()
    mean, covariance = moments(*dense_posterior(prior, measurement))
    x = Exact()(prior, measurement, DRAWS, rng(1)).samples.flatten(1)
    assert mean_z(x, mean, covariance) < THRESHOLD and variance_z(x, mean, covariance) < THRESHOLD
    forgotten = prior.components[2]  # one component alone
    x = Exact()(forgotten, measurement, DRAWS, rng(1)).samples.flatten(1)
    assert mean_z(x, mean, covariance) > 2 * THRESHOLD


def test_posterior_mean_is_that_of_dense_algebra():
    prior, measurement = mixture(), observe()
    weights, means, _ = dense_posterior(prior, measurement)
    expected = sum(w * m for w, m in zip(weights, means, strict=True))
    torch.testing.assert_close(posterior_mean(prior, measurement).flatten(), expected)
    prior_weights = sum(w * m for w, m in zip(prior.weights, means, strict=True))
    assert (prior_weights - expected).abs().max() > 0.1
    gaussian = prior.components[1]
    torch.testing.assert_close(posterior_mean(gaussian, measurement).flatten(), means[1])


def test_a_mixture_of_one_or_of_equals_is_a_gaussian():
    measurement, (component, *_) = observe(), mixture().components
    m, S, _ = dense_component(component, measurement)
    for weights in ([1.0], [0.3, 0.7]):
        prior = MixturePrior((component,) * len(weights), torch.tensor(weights, dtype=torch.float64))
        for sampler in (Exact(), FAPS(levels=6)):
            z = gaussian_z_scores(sampler(prior, measurement, DRAWS, rng(2)).samples.flatten(1), m, S)
            assert z.mean < THRESHOLD and z.covariance < THRESHOLD, (sampler, weights, z)


def test_faps_takes_the_levels_of_the_paper_where_the_prior_is_not_gaussian():
    prior, measurement = mixture(apart=0.8), observe()
    assert FAPS()(prior, measurement, 2, rng(0)).cost["velocity_calls"] == 40
    assert FAPS()(prior.components[0], measurement, 2, rng(0)).cost["velocity_calls"] == 1


def test_streams_stay_aligned_whatever_component_a_sample_is_of():
    prior, measurement = mixture(), observe()
    together = Exact()(prior, measurement, 12, SampleStreams(1, range(12))).samples
    _, means, covariances = dense_posterior(prior, measurement)
    assert len(assign(together.flatten(1), means, covariances).unique()) > 1
    for i in range(12):
        alone = Exact()(prior, measurement, 1, SampleStreams(1, [i])).samples
        torch.testing.assert_close(alone[0], together[i], rtol=1e-10, atol=1e-10)


class Unknown:
    """A prior whose posterior nobody knows."""

    def __init__(self, prior: GaussianPrior) -> None:
        self.name, self.units, self.gaussian, self.mean = "learned", None, False, prior.mean
        self.source, self.covariance, self.standardisation = prior.source, prior.covariance, prior.standardisation
        self.velocity = prior.velocity


def test_a_prior_that_is_no_mixture_is_refused():
    unknown = Unknown(mixture().components[0])
    with pytest.raises(
        InfieldError, match=r"'learned', whose posterior is not known in closed form.*; use sampler=\"faps\""
    ):
        Exact()(unknown, observe(), 2, rng(0))
    with pytest.raises(InfieldError, match="is not known"):
        posterior_mean(unknown, observe())
