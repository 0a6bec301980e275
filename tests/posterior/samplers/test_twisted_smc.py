"""Twisted SMC: conditional moments, the bookkeeping of weights, and posteriors of a prior with modes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch

from infield import InfieldError
from infield.core.grid import PointSet
from infield.core.randomness import SampleStreams
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import GaussianNoise
from infield.physics.operators.registry import build_operator
from infield.posterior.diagnostics.calibration import mean_error, std_ratio
from infield.posterior.inference.conditional_moments import ConditionalMoments
from infield.posterior.inference.linear_gaussian import LinearGaussianData
from infield.posterior.inference.particles import ParticleWeights
from infield.posterior.inference.twist import LocalTwist
from infield.posterior.samplers.exact import Exact, posterior_mean
from infield.posterior.samplers.faps import FAPS
from infield.posterior.samplers.twisted_smc import TwistedSMC, collapsed
from infield.priors.base import denoise
from infield.priors.gaussian.bridge import Bridge
from infield.priors.gaussian.kernels import Matern, White
from infield.priors.gaussian.prior import gaussian_prior
from infield.priors.storage.from_yaml import prior_from_description

POINTS = PointSet(tuple((x / 23,) for x in range(24)))
SOURCE = Matern(nu=0.5, length=0.05)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def randn(*shape, seed=0):
    return torch.randn(shape, generator=rng(seed), dtype=torch.float64)


def mixture(lengths=(0.04, 0.6)):
    components = [{"law": {"law": "matern", "nu": 1.5, "length": length}} for length in lengths]
    source = {"law": "matern", "nu": SOURCE.nu, "length": SOURCE.length}
    return prior_from_description({"prior": "mixture", "components": components, "source": source}, POINTS, 1)


def measure(truth, index, variance=0.01, seed=5):
    index = torch.tensor(index)
    description = {"name": "points", "arrays": {"indices": "sensor"}}
    noise = variance**0.5 * torch.randn(len(index), generator=rng(seed), dtype=torch.float64)
    return Measurement(
        y=(truth[0, index] + noise)[None, None],
        operator=build_operator(description, {"sensor": index.numpy()}, POINTS, 1),
        noise=GaussianNoise(torch.tensor(variance)),
        grid=POINTS,
        description=description,
        arrays={"sensor": index.numpy()},
    )


@dataclass
class Hidden:
    """A prior whose closed form is not to be seen, as that of a network."""

    inner: object

    def __post_init__(self):
        for name in ("source", "covariance", "mean", "standardisation", "units"):
            setattr(self, name, getattr(self.inner, name))
        self.name, self.gaussian = "hidden", False

    def velocity(self, x, t):
        return self.inner.velocity(x, t)


@pytest.fixture(scope="module")
def prior():
    return mixture()


@pytest.fixture(scope="module")
def measurement(prior):
    return measure(prior.components[1].covariance.sample(1, rng(4))[0], [2, 9, 15, 21])


@pytest.mark.parametrize("t", [0.03, 0.5, 0.97])
def test_the_local_law_by_the_jacobian_is_the_closed_one(prior, t):
    x = t * prior.components[0].covariance.sample(3, rng(1)) + (1 - t) * prior.source.sample(3, rng(2))
    fields = torch.randn(4, 1, 24, generator=rng(3), dtype=torch.float64)
    m, V = ConditionalMoments(prior, fields).at(x, t)
    by_jacobian = ConditionalMoments(Hidden(prior), fields)
    m_j, V_j = by_jacobian.at(x, t)
    assert by_jacobian.jacobian_products == 12
    torch.testing.assert_close(m_j, m)
    torch.testing.assert_close(V_j, V, rtol=1e-6, atol=1e-8 * float(V.abs().max()))
    wrong = V * t / (1 - t)  # negative control: the factor of another path
    assert (V_j - wrong).abs().max() > 1e-2 * V.abs().max() or t == 0.5


def test_the_local_law_of_a_gaussian_is_its_bridge():
    gaussian = gaussian_prior(Matern(nu=1.5, length=0.3), POINTS, source=SOURCE)
    x, fields = gaussian.source.sample(2, rng(1)), torch.eye(24, dtype=torch.float64)[:5, None]
    expected = Bridge(gaussian.covariance, gaussian.source, 0.4).conditional().apply(fields)
    for law in (ConditionalMoments(gaussian, fields), ConditionalMoments(Hidden(gaussian), fields)):
        torch.testing.assert_close(law.at(x, 0.4)[1], expected.expand(2, *expected.shape), rtol=1e-6, atol=1e-9)


def test_systematic_resampling_is_unbiased_and_steady():
    weights = torch.tensor([0.05, 0.4, 0.25, 0.3], dtype=torch.float64)
    particles = ParticleWeights(weights.log())
    counts = []
    for u in torch.linspace(0, 0.999, 1000, dtype=torch.float64):
        count = torch.bincount(particles.choose(10, u), minlength=4)
        assert ((count - 10 * weights).abs() < 1 + 1e-9).all()  # a multinomial draw would stray further
        counts.append(count)
    torch.testing.assert_close(torch.stack(counts).double().mean(0), 10 * weights, rtol=0, atol=0.02)


def test_resampling_keeps_the_evidence():
    factors = torch.randn(3, 50, generator=rng(0), dtype=torch.float64)
    particles = ParticleWeights(factors[0])
    first = float(factors[0].exp().mean().log())
    assert particles.log_evidence == pytest.approx(first)
    chosen = particles.resample(torch.tensor(0.3, dtype=torch.float64))
    assert particles.log_evidence == pytest.approx(first) and particles.ess_fraction == pytest.approx(1)
    particles.reweigh(factors[1][chosen])
    assert particles.log_evidence == pytest.approx(first + float(factors[1][chosen].exp().mean().log()))
    assert particles.resampled == 1 and 0 < particles.least_share < 1


def test_posterior_of_a_mixture_where_annealing_fails(prior, measurement):
    exact = Exact()(prior, measurement, 4000, rng(1)).samples
    mean = posterior_mean(prior, measurement)
    smc = TwistedSMC(steps=40, particles=2)(prior, measurement, 4000, rng(2))
    assert mean_error(smc.samples, mean, exact.std(0)) < 0.12
    assert abs(std_ratio(smc.samples, exact) - 1) < 0.05
    annealed = FAPS(levels=40)(prior, measurement, 1000, rng(3)).samples  # negative control
    wrong = abs(std_ratio(annealed, exact) - 1) > 0.05 or mean_error(annealed, mean, exact.std(0)) > 0.12
    assert wrong
    assert smc.cost["velocity_calls"] == 80


def test_evidence_is_that_of_the_closed_form(prior, measurement):
    data = LinearGaussianData(measurement, prior.source.modes)
    parts = torch.stack([data.log_evidence(c.mean, c.covariance) for c in prior.components])
    exact = float(torch.logsumexp(parts + prior.weights.log(), 0))
    estimates = [
        TwistedSMC(steps=40, particles=1)(prior, measurement, 500, rng(s)).diagnostics["log_evidence"] for s in range(4)
    ]
    assert abs(sum(estimates) / 4 - exact) < 0.15
    other = measure(prior.components[0].covariance.sample(1, rng(8))[0] + 1, [2, 9, 15, 21])
    far = TwistedSMC(steps=40)(prior, other, 200, rng(0)).diagnostics["log_evidence"]
    assert abs(far - exact) > 0.5  # the estimate follows the data


def test_a_hidden_prior_gives_the_same_particles(prior, measurement):
    seen = TwistedSMC(steps=8, particles=2)(prior, measurement, 20, rng(6))
    hidden = TwistedSMC(steps=8, particles=2)(Hidden(prior), measurement, 20, rng(6))
    torch.testing.assert_close(hidden.samples, seen.samples, rtol=1e-5, atol=1e-6)


def test_streams_repeat_an_island(prior, measurement):
    sampler = TwistedSMC(steps=5, particles=2)
    first = sampler(prior, measurement, 6, SampleStreams(3, range(6))).samples
    assert torch.equal(sampler(prior, measurement, 6, SampleStreams(3, range(6))).samples, first)
    assert not torch.equal(sampler(prior, measurement, 6, SampleStreams(3, range(6, 12))).samples, first)


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"steps": 0}, "steps=0, expected at least 1"),
        ({"particles": 0}, "particles=0"),
        ({"exponent": math.nan}, "exponent=nan"),
        ({"resample_below": 1.5}, "resample_below=1.5, expected 0 to 1"),
    ],
)
def test_wrong_parameters_are_refused(parameters, message):
    with pytest.raises(InfieldError, match=message):
        TwistedSMC(**parameters)


def test_a_twist_of_a_gaussian_is_the_evidence_and_its_guide_the_gradient(measurement):
    gaussian = gaussian_prior(Matern(nu=1.5, length=0.3), POINTS, source=SOURCE)
    data, t = LinearGaussianData(measurement, gaussian.covariance.modes), 0.6
    twist = LocalTwist(gaussian, data)
    x = gaussian.source.sample(2, rng(1))
    guess, K = twist.at(x, t), Bridge(gaussian.covariance, gaussian.source, t).conditional()
    evidence = [data.log_evidence(denoise(gaussian, x[i : i + 1], t)[0], K) for i in range(2)]
    torch.testing.assert_close(guess.log_psi, torch.stack(evidence))
    direction = gaussian.source.sample(1, rng(2))  # = C_0^{1/2} w
    w = gaussian.source.modes.analyse(direction) / gaussian.source.diagonal.sqrt()
    h = 1e-4
    slope = (twist.at(x + h * direction, t).log_psi - twist.at(x - h * direction, t).log_psi) / (2 * h)
    along = gaussian.source.modes.analyse(guess.guide)
    torch.testing.assert_close((guess.guide * w).flatten(1).sum(1), slope, rtol=1e-5, atol=1e-6)
    assert ((along * w).flatten(1).sum(1) - slope).abs().max() > 1e-3  # negative control: guide taken for a field


def test_the_last_twist_is_the_likelihood(prior, measurement):
    twist = LocalTwist(prior, LinearGaussianData(measurement, prior.source.modes))
    x = prior.components[0].covariance.sample(3, rng(4))
    torch.testing.assert_close(twist.log_likelihood(x), measurement.log_likelihood(x))


def test_a_covariance_that_is_kept_for_some_steps_only_guides(prior, measurement):
    """The weights know of it, so that draws and evidence stay right; it costs a third of the products."""
    exact = Exact()(prior, measurement, 4000, rng(1)).samples
    mean, law = posterior_mean(prior, measurement), LinearGaussianData(measurement, prior.source.modes)
    parts = torch.stack([law.log_evidence(c.mean, c.covariance) for c in prior.components])
    evidence = float(torch.logsumexp(parts + prior.weights.log(), 0))
    kept = TwistedSMC(steps=40, particles=2, refresh=3)(prior, measurement, 4000, rng(2))
    assert mean_error(kept.samples, mean, exact.std(0)) < 0.12
    assert abs(std_ratio(kept.samples, exact) - 1) < 0.05
    assert abs(kept.diagnostics["log_evidence"] - evidence) < 0.2
    products = [
        TwistedSMC(steps=10, particles=2, refresh=r)(Hidden(prior), measurement, 20, rng(6)).diagnostics for r in (1, 3)
    ]
    assert products[0]["jacobian_products"] == 10 * 2 * 4 and products[1]["jacobian_products"] == 4 * 2 * 4


@dataclass
class Contrary:
    """A prior whose denoiser has a Jacobian of both signs, as a network's may: m(x) = gains x, point by point."""

    inner: object
    gains: torch.Tensor

    def __post_init__(self):
        for name in ("source", "covariance", "mean", "standardisation", "units"):
            setattr(self, name, getattr(self.inner, name))
        self.name, self.gaussian = "contrary", False

    def velocity(self, x, t):
        return (self.gains * x - x) / (1 - t)


def test_a_negative_variance_of_the_jacobian_counts_as_none():
    """Data are points, the source is white: each datum has a law of its own, N(m, max(V, 0) + noise)."""
    t, variance, index = 0.4, 0.3, [1, 6, 12, 20]
    gains = torch.linspace(-1.5, 1.5, 24, dtype=torch.float64)
    prior = Contrary(gaussian_prior(Matern(nu=1.5, length=0.3), POINTS, source=White()), gains)
    measurement = measure(torch.randn(1, 24, generator=rng(1), dtype=torch.float64), index, variance)
    guess = LocalTwist(prior, LinearGaussianData(measurement, prior.source.modes)).at(x := randn(3, 1, 24), t)
    V, m = ((1 - t) ** 2 / t * gains)[index], (gains * x)[:, 0, index]
    assert V[0] < -variance and V[1] < 0 < V[2]  # without the clamp a logarithm of less than nothing, and a wrong one
    spread = V.clamp(min=0) + variance
    r = measurement.y[0, 0] - m
    expected = torch.distributions.Normal(m, spread.sqrt()).log_prob(measurement.y[0, 0]).sum(1)
    torch.testing.assert_close(guess.log_psi, expected)
    guide = torch.zeros(3, 1, 24, dtype=torch.float64)
    guide[:, 0, index] = gains[index] * r / spread  # of V fixed at x: (dm/dx)^T A^T z
    torch.testing.assert_close(prior.source.modes.synthesise(guess.guide), guide)


def test_weights_that_collapse_are_marked():
    few = ParticleWeights(torch.zeros(200, dtype=torch.float64))
    assert not collapsed(few)
    few.reweigh(torch.where(torch.arange(200) < 12, 0.0, -100.0).double())
    assert not collapsed(few)  # 12 of 200
    few.reweigh(torch.where(torch.arange(200) < 3, 0.0, -100.0).double())
    few.resample(torch.tensor(0.5))
    assert collapsed(few) and few.ess_fraction == pytest.approx(1)  # resampling does not hide it
    small = ParticleWeights(torch.tensor([0.0, -1.0, -1.0, -1.0]).double())
    assert not collapsed(small)


def test_the_error_of_a_probability_is_that_of_the_families(prior):
    """Four data that leave 0.39 for one component: over islands, the share of draws of it scatters as families say."""
    measurement = measure(prior.components[1].covariance.sample(1, rng(123))[0], [2, 9, 15, 21], seed=23)
    data = LinearGaussianData(measurement, prior.source.modes)
    logs = torch.stack([data.log_evidence(c.mean, c.covariance) for c in prior.components]) + prior.weights.log()
    p, evidence = float(torch.softmax(logs, 0)[0]), float(torch.logsumexp(logs, 0))
    assert 0.38 < p < 0.41
    z, off, naive = [], [], []
    for seed in range(8):
        found = TwistedSMC(steps=50, particles=2, local_data=0)(prior, measurement, 100, rng(seed))
        share = float(prior.responsibilities(found.samples, 0.99)[:, 0].mean())
        variance = p * (1 - p)
        families = found.diagnostics["families"]
        z.append((share - p) / (variance / families) ** 0.5)
        naive.append((share - p) / (variance / 200) ** 0.5)
        off.append((found.diagnostics["log_evidence"] - evidence) / found.diagnostics["log_evidence_error"])
    square = [sum(v**2 for v in values) / len(values) for values in (z, off, naive)]
    assert square[0] < 2.5 and square[1] < 2.5  # chi-square of 8: above with a probability of 0.01
    assert square[2] > 2.5  # negative control: particles taken for independent
