"""Sequential Monte Carlo for operators that are not linear and noise that is not Gaussian, beside quadrature."""

from __future__ import annotations

import math

import pytest
import torch

from infield import InfieldError
from infield.core._deepinv import Physics
from infield.core.grid import PointSet
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import GaussianNoise, PoissonNoise
from infield.physics.operators.base import plain_physics
from infield.physics.operators.refusal import ForwardModelError
from infield.physics.operators.registry import build_operator
from infield.posterior.inference import local_likelihood
from infield.posterior.inference.linear_gaussian import LinearGaussianData
from infield.posterior.inference.local_likelihood import Conditioned, LocalModels
from infield.posterior.samplers.twisted_smc import TwistedSMC, _Noise
from infield.priors.gaussian.kernels import Matern
from infield.priors.gaussian.mixture import MixturePrior
from infield.priors.gaussian.prior import gaussian_prior

PAIR = PointSet(((0.0,), (0.3,)))
SOURCE = Matern(nu=0.5, length=0.1)
N = 4000


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def pair(length=0.5):
    return gaussian_prior(Matern(nu=1.5, length=length), PAIR, source=SOURCE)


def counts(y=(7.0, 0.0), scale=2.0):
    operator = build_operator({"name": "exp", "parameters": {"scale": scale}}, {}, PAIR, 1)
    return Measurement(torch.tensor([[y]]).double(), operator=operator, noise=PoissonNoise(1.0), grid=PAIR)


class Products(Physics):
    """u v and u + 0.3 u^2 of a field of two values: not linear, and one mode. With a ceiling on |u|."""

    def __init__(self):
        super().__init__(**plain_physics())
        self.ceiling = math.inf
        self.register_buffer("observed", None)

    def A(self, x):
        if bool((x.abs().amax((1, 2)) > self.ceiling).any()):
            raise ForwardModelError("too large")
        return torch.stack([x[..., 0] * x[..., 1], x[..., 0] + 0.3 * x[..., 0].square()], dim=-1)


def products(ceiling=math.inf):
    noise = GaussianNoise(torch.tensor(0.2).double())
    operator = Products()
    measurement = Measurement(torch.tensor([[[1.6, 1.2]]]).double(), operator=operator, noise=noise, grid=PAIR)
    operator.ceiling = ceiling  # not before: a measurement tries its operator on fields of its own
    return measurement


def quadrature(prior, measurement):
    """Evidence, mean and covariance of the two values, on a fine grid of them."""
    parts = getattr(prior, "components", [prior])
    weights = prior.weights if len(parts) > 1 else torch.ones(1).double()
    x = torch.linspace(-6, 6, 481).double()
    u = torch.stack(torch.meshgrid(x, x, indexing="ij"), dim=-1).reshape(-1, 1, 2)
    unit = torch.eye(2).double()[:, None]
    density = sum(
        w * torch.distributions.MultivariateNormal(p.mean[0], p.covariance.apply(unit)[:, 0]).log_prob(u[:, 0]).exp()
        for w, p in zip(weights, parts, strict=True)
    )
    joint = density * measurement.log_likelihood(u).exp() * (x[1] - x[0]) ** 2
    Z = joint.sum()
    mean = (joint[:, None] * u[:, 0]).sum(0) / Z
    away = u[:, 0] - mean
    return float(Z.log()), mean, (joint[:, None, None] * away[:, :, None] * away[:, None, :]).sum(0) / Z


def z_scores(found, mean, covariance):
    """Of mean and log evidence, in standard errors that allow for the island's effective share."""
    x = found.samples[:, 0]
    share = found.diagnostics["effective_share"]
    sd = covariance.diagonal().sqrt()
    return (x.mean(0) - mean) / sd * (len(x) * share) ** 0.5, x.T.cov().diagonal() / sd**2


CASES = {"counts": counts, "products": products}


@pytest.mark.parametrize("few", [64, 0], ids=["own rows", "shared rows"])
@pytest.mark.parametrize("case", CASES)
def test_the_posterior_and_the_evidence_are_those_of_quadrature(case, few, monkeypatch):
    monkeypatch.setattr(local_likelihood, "FEW", few)
    prior, measurement = pair(), CASES[case]()
    evidence, mean, covariance = quadrature(prior, measurement)
    for steps in (1, 6):  # exact at any number under a Gaussian prior, as particles grow
        found = TwistedSMC(steps=steps, particles=2)(prior, measurement, N, rng(1))
        z, ratio = z_scores(found, mean, covariance)
        assert z.abs().max() < 3.5 and (ratio - 1).abs().max() < 0.12
        assert abs(found.diagnostics["log_evidence"] - evidence) < 0.03
    models = LocalModels(prior, measurement)
    m = models.coordinates(prior.mean[None])
    laplace = float(Conditioned(models.first, m, models.spread(models.first, prior.covariance)).log_evidence)
    assert abs(laplace - evidence) > 0.03 or case == "counts"  # negative control: without weights it is Laplace's
    assert found.diagnostics["effective_share"] > 0.4


def test_under_a_mixture():
    prior = MixturePrior((pair(0.05), pair(5.0)), torch.tensor([0.5, 0.5]).double())
    evidence, mean, covariance = quadrature(prior, counts())
    found = TwistedSMC(steps=40, particles=2)(prior, counts(), N, rng(2))
    z, ratio = z_scores(found, mean, covariance)
    assert z.abs().max() < 3.5 and (ratio - 1).abs().max() < 0.12
    assert abs(found.diagnostics["log_evidence"] - evidence) < 0.06
    one = quadrature(prior.components[1], counts())
    assert abs(one[0] - evidence) > 0.06 and ((one[1] - mean) / covariance.diagonal().sqrt()).abs().max() > 0.2


@pytest.mark.parametrize("few", [64, 0], ids=["own rows", "shared rows"])
def test_linear_data_have_weights_of_one(few, monkeypatch):
    monkeypatch.setattr(local_likelihood, "FEW", few)
    operator = build_operator({"name": "points", "arrays": {"indices": "i"}}, {"i": torch.tensor([1]).numpy()}, PAIR, 1)
    noise = GaussianNoise(torch.tensor(1e-4).double())
    measurement = Measurement(torch.tensor([[[1.3]]]).double(), operator=operator, noise=noise, grid=PAIR)
    prior = pair()
    x, particles, diagnostics = TwistedSMC(steps=3, particles=2)._linearised(
        prior, LocalModels(prior, measurement), _Noise(rng(0), 500, 2)
    )
    exact = LinearGaussianData(measurement, prior.covariance.modes)
    assert particles.least_share > 1 - 1e-9
    evidence = float(exact.log_evidence(prior.mean, prior.covariance))
    assert diagnostics["log_evidence"] == pytest.approx(evidence, abs=1e-6)
    z = (x.mean(0) - exact.mean(prior.mean[None], prior.covariance)[0])[0, 0] / x.std() * len(x) ** 0.5
    assert abs(float(z)) < 4


@pytest.mark.slow
def test_fields_that_the_operator_refuses_have_no_weight():
    measurement = products(ceiling=2.3)
    found = TwistedSMC(steps=4, particles=4)(pair(), measurement, 500, rng(0))
    assert float(found.samples.abs().max()) <= 2.3
    free = TwistedSMC(steps=4, particles=4)(pair(), products(), 500, rng(0))
    assert float(free.samples.abs().max()) > 2.3  # negative control


def test_a_derivative_that_is_not_finite_is_refused():
    class Kinked(Products):
        def A(self, x):
            return super().A(x) + (0 * x).abs().sqrt()

    measurement = Measurement(products().y, operator=Kinked(), noise=products().noise, grid=PAIR)
    with pytest.raises(InfieldError, match=r"not finite|a finite number"):
        TwistedSMC(steps=2)(pair(), measurement, 4, rng(0))


def test_impossible_data_name_no_other_sampler():
    with pytest.raises(InfieldError, match="log-likelihood -inf at the prior's mean") as error:
        TwistedSMC(steps=2)(pair(), _impossible(), 4, rng(0))
    assert "faps" not in str(error.value)


def _impossible():
    operator = build_operator({"name": "mask", "arrays": {"mask": "m"}}, {"m": torch.ones(2).bool().numpy()}, PAIR, 1)
    return Measurement(torch.ones(1, 1, 2).double(), operator=operator, noise=PoissonNoise(1.0), grid=PAIR)
