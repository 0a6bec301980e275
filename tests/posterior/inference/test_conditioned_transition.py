"""Conditioned transitions: coefficients, the Gaussian model between two times, and weights of 1 for Gaussian priors."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch

from infield.core.grid import Grid, PointSet
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import GaussianNoise
from infield.physics.operators.registry import build_operator
from infield.posterior.inference import linear_gaussian
from infield.posterior.inference.conditioned_transition import ConditionedTransition, Reversal, conditional
from infield.posterior.inference.linear_gaussian import LinearGaussianData
from infield.posterior.samplers.exact import Exact, posterior_mean
from infield.posterior.samplers.twisted_smc import TwistedSMC
from infield.priors.gaussian.kernels import Matern
from infield.priors.gaussian.prior import gaussian_prior

POINTS = PointSet(tuple((x / 47,) for x in range(48)))
SHARP = 1e-6
"""Variance of the noise; that of the field is 1."""


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def prior():
    return gaussian_prior(Matern(nu=0.5, length=0.2), POINTS, source=Matern(nu=0.5, length=0.05))


def measure(prior, variance=SHARP, index=range(4, 44)):
    index = torch.tensor(list(index))
    truth = prior.covariance.sample(1, rng(3))[0]
    description = {"name": "points", "arrays": {"indices": "sensor"}}
    return Measurement(
        y=(truth[0, index] + variance**0.5 * torch.randn(len(index), generator=rng(5), dtype=torch.float64))[
            None, None
        ],
        operator=build_operator(description, {"sensor": index.numpy()}, POINTS, 1),
        noise=GaussianNoise(torch.tensor(variance)),
        grid=POINTS,
    )


def dense(covariance):
    return covariance.apply(torch.eye(48, dtype=torch.float64)[:, None]).flatten(1)


@pytest.mark.parametrize(("t", "t_next"), [(0.0, 0.3), (0.2, 0.5), (0.5, 0.9)])
def test_the_model_between_two_times_is_that_of_the_gaussian(prior, t, t_next):
    """By matrices: x' has its marginal, and what x' and x say of x_1 is equation (3), whose covariance is K_t'."""
    step = Reversal(t, t_next)
    K, C_0 = dense(conditional(prior, t)), dense(prior.source)
    x = prior.source.sample(2, rng(1)) if t else torch.zeros(2, 1, 48, dtype=torch.float64)
    m = x + (1 - t) * prior.velocity(x, t) if t else prior.mean.expand(x.shape)
    x_next = prior.source.sample(2, rng(2))
    G = step.c * K @ torch.linalg.inv(step.c**2 * K + step.tau**2 * C_0)
    expected = m + (step.shift(x, m, x_next).flatten(1) @ G.mT)[:, None]
    K_next = conditional(prior, t_next)
    torch.testing.assert_close(m + step.update(step.shift(x, m, x_next), K_next, prior.source), expected)
    torch.testing.assert_close(K - step.c * G @ K, dense(K_next), rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(x_next + (1 - t_next) * prior.velocity(x_next, t_next), expected)  # m(x')
    C = dense(prior.covariance)
    P, P_next = (s**2 * C + (1 - s) ** 2 * C_0 for s in (t, t_next))
    cross = t * C  # Cov(x_1, x_t)
    gain = cross @ torch.linalg.inv(P)  # x' = c x_1 + rho x + tau e has Cov(x_t') = P'
    moved = step.c * gain + step.rho * torch.eye(48, dtype=torch.float64)
    torch.testing.assert_close(moved @ P @ moved.mT + step.c**2 * (C - gain @ cross.mT) + step.tau**2 * C_0, P_next)


@pytest.mark.parametrize("steps", [1, 3, 20])
def test_a_gaussian_prior_is_exact_at_any_number_of_steps(prior, steps):
    """40 sharp data of 48 points: every weight is 1; evidence, mean and variance are those of the closed form."""
    measurement, n = measure(prior), 2000
    found = TwistedSMC(steps=steps, particles=1)(prior, measurement, n, rng(2))
    evidence = LinearGaussianData(measurement, prior.covariance.modes).log_evidence(prior.mean, prior.covariance)
    assert found.diagnostics["effective_share"] > 1 - 1e-6 and found.diagnostics["resampled"] == 0
    assert found.diagnostics["log_evidence"] == pytest.approx(float(evidence), abs=1e-6)
    variance = torch.cat([(Exact()(prior, measurement, n, rng(7)).samples).var(0)])
    z = (found.samples.mean(0) - posterior_mean(prior, measurement)[0]) / (variance / n).sqrt()
    assert z.abs().max() < 4.5
    assert ((found.samples.var(0) / variance).log().abs() < 4.5 * (4 / n) ** 0.5).all()


@dataclass
class Drifted:
    """A Gaussian prior whose denoiser is off, as that of a network may be."""

    inner: object
    by: float

    def __post_init__(self):
        for name in ("source", "covariance", "mean", "standardisation", "units"):
            setattr(self, name, getattr(self.inner, name))
        self.name, self.gaussian = "drifted", False

    def velocity(self, x, t):
        return self.inner.velocity(x, t) + self.by * torch.sin(6 * x)


def test_weights_see_a_denoiser_that_is_not_the_gaussians(prior):
    """Negative control of the weights; and equation (4) is the difference of two log densities, by matrices."""
    measurement = measure(prior, variance=0.01)
    drifted = Drifted(prior, 0.3)
    found = TwistedSMC(steps=3, particles=1)(drifted, measurement, 200, rng(2))
    assert found.diagnostics["effective_share"] < 0.9
    data, step = LinearGaussianData(measurement, prior.covariance.modes), Reversal(0.2, 0.5)
    transition = ConditionedTransition(drifted, data)
    x, x_next = prior.source.sample(3, rng(1)), prior.source.sample(3, rng(2))
    m, m_next = transition.mean(x, 0.2), transition.mean(x_next, 0.5)
    K_next = conditional(prior, 0.5)
    m_l = m + step.update(step.shift(x, m, x_next), K_next, prior.source)
    log_ratio = [data.log_evidence(m_next[i], K_next) - data.log_evidence(m_l[i], K_next) for i in range(3)]
    found_weights = transition.log_weight(step, K_next, x, m, x_next, m_next)
    torch.testing.assert_close(found_weights, torch.stack(log_ratio))
    assert (found_weights.abs() > 0.1).any()


def test_many_data_by_conjugate_gradients_are_those_by_matrices(monkeypatch):
    """And a solve with A K A^T + R undoes it; the determinant is then estimated, with its error."""
    grid = Grid.regular((12, 12), periodic=True)
    prior = gaussian_prior(Matern(nu=1.5, length=0.2), grid, source=Matern(nu=0.5, length=0.1))
    mask = (torch.rand(12, 12, generator=rng(1)) < 0.6).numpy().astype(np.float32)
    operator = build_operator({"name": "mask", "arrays": {"mask": "m"}}, {"m": mask}, grid, 1)
    y = operator.A(prior.covariance.sample(1, rng(2)))
    measurement = Measurement(y=y, operator=operator, noise=GaussianNoise(torch.tensor(0.05)), grid=grid)
    sampler = TwistedSMC(steps=2, particles=2)
    by_matrices = sampler(Drifted(prior, 0.05), measurement, 6, rng(3))
    monkeypatch.setattr(linear_gaussian, "DENSE_DATA", 10)
    monkeypatch.setattr(linear_gaussian, "SENSORS", 0)
    by_iterations = sampler(Drifted(prior, 0.05), measurement, 6, rng(3))
    evidence, estimate = by_matrices.diagnostics, by_iterations.diagnostics
    assert abs(estimate["log_evidence"] - evidence["log_evidence"]) < 3 * estimate["log_evidence_error"] < 6
    assert 0 < evidence["log_evidence_error"] < estimate["log_evidence_error"]  # that of the weights alone
    torch.testing.assert_close(by_iterations.samples, by_matrices.samples, rtol=0, atol=0.02)
    data = replace(LinearGaussianData(measurement, prior.covariance.modes), tolerance=1e-6)
    r = measurement.residual(torch.zeros_like(y)) + 0.3 * measurement.residual(torch.ones_like(y))
    z = data.solve(r, prior.covariance)
    back = measurement.residual(torch.zeros_like(y)) - measurement.residual(
        prior.covariance.apply(operator.A_adjoint(z))
    )
    torch.testing.assert_close(back + data.noise.apply(z), r, rtol=1e-4, atol=1e-4)
