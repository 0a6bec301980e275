"""Priors in closed form: velocity, score and samples against dense algebra, autograd and brute force."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from infield import InfieldError
from infield.core.grid import Grid, PointSet
from infield.priors.base import FlowPrior, Standardisation, denoise, sample, score
from infield.priors.covariance.base import Covariance
from infield.priors.covariance.modes import Hartley
from infield.priors.gaussian.bridge import Bridge
from infield.priors.gaussian.kernels import Matern, White
from infield.priors.gaussian.mixture import MixturePrior
from infield.priors.gaussian.prior import GaussianPrior, empirical_prior, gaussian_prior, spectrum_prior

THRESHOLD = 4.5
TIMES = (0.0, 0.2, 0.6, 0.95)
GRID = Grid.regular((6,), 1.0, periodic=True)


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=rng(seed), dtype=torch.float64)


def matrix(C: Covariance) -> Tensor:
    n = math.prod(C.event_shape)
    return C.apply(torch.eye(n, dtype=torch.float64).reshape(n, *C.event_shape)).flatten(1)


def gaussian(length: float = 0.3, offset: float = 1.0, rank: int = 0) -> GaussianPrior:
    prior = gaussian_prior(Matern(1.5, length), GRID, source=Matern(0.5, 0.1))
    if rank:
        C = prior.covariance
        prior = replace(prior, covariance=Covariance(C.modes, C.diagonal, 0.5 * normal(rank, 1, 6, seed=rank)))
    return replace(prior, mean=offset * torch.linspace(-1, 1, 6, dtype=torch.float64)[None])


def mixture() -> MixturePrior:
    parts = (gaussian(0.1, 0.0), gaussian(0.5, 1.5, rank=2), gaussian(0.3, -1.0))
    return MixturePrior(parts, torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64))


PRIORS = {"gaussian": gaussian, "low rank": lambda: gaussian(rank=2), "mixture": mixture}
every_prior = pytest.mark.parametrize("make", PRIORS.values(), ids=PRIORS)


def log_density(prior: GaussianPrior | MixturePrior, x: Tensor, t: float) -> Tensor:
    """log p_t(x) by dense algebra, differentiable, shape `(batch,)`."""
    logs = []
    for weight, part in zip(prior.weights, prior.components, strict=True):
        P = t**2 * matrix(part.covariance) + (1 - t) ** 2 * matrix(part.source)
        law = torch.distributions.MultivariateNormal(t * part.mean.flatten(), P)
        logs.append(weight.log() + law.log_prob(x.flatten(1)))
    return torch.logsumexp(torch.stack(logs), 0)


@every_prior
def test_priors_keep_the_protocol(make):
    prior = make()
    assert isinstance(prior, FlowPrior)
    assert prior.gaussian == (len(prior.components) == 1) and prior.name and prior.provenance["kind"]
    x = normal(3, 1, 6)
    v = prior.velocity(x, 0.4)
    for i in range(3):
        torch.testing.assert_close(prior.velocity(x[i : i + 1], 0.4)[0], v[i], rtol=1e-12, atol=1e-12)


@every_prior
@pytest.mark.parametrize("t", TIMES)
def test_score_is_the_gradient_of_the_log_density(make, t):
    prior, x = make(), normal(5, 1, 6).requires_grad_()
    (expected,) = torch.autograd.grad(log_density(prior, x, t).sum(), x)
    found = score(prior, x.detach(), t)
    torch.testing.assert_close(found, expected, rtol=1e-7, atol=1e-7)
    assert not torch.allclose(-found, expected, rtol=0.1)
    if t > 0:
        assert not torch.allclose(score(prior, x.detach(), t + 0.03), expected, rtol=0.01)


@every_prior
@pytest.mark.parametrize("t", [0.2, 0.6])
def test_denoised_field_is_the_conditional_expectation_by_brute_force(make, t):
    """E[x_1 | x_t] as a mean over draws of x_1, each weighted by N(x_t; t x_1, (1 - t)^2 C_0)."""
    prior, n = make(), 200_000
    chosen = torch.multinomial(prior.weights, n, replacement=True, generator=rng(3))
    x_1 = torch.zeros(n, 6, dtype=torch.float64)
    for k, part in enumerate(prior.components):
        here = chosen == k
        x_1[here] = (part.mean + part.covariance.sample(int(here.sum()), rng(10 + k))).flatten(1)
    x_t = t * x_1[:3] + (1 - t) * prior.source.sample(3, rng(4)).flatten(1)
    law = torch.distributions.MultivariateNormal(torch.zeros(6).double(), (1 - t) ** 2 * matrix(prior.source))
    for row in x_t:
        weights = torch.softmax(law.log_prob(row - t * x_1), 0)
        expected = weights @ x_1
        error = (weights.square() @ (x_1 - expected).square()).sqrt()
        found = denoise(prior, row.reshape(1, 1, 6), t).flatten()
        assert float(((found - expected) / error).abs().max()) < THRESHOLD
    assert float(((x_t[-1] - expected) / error).abs().max()) > 2 * THRESHOLD  # the noisy field itself is not it


@every_prior
def test_velocity_is_the_conditional_mean_of_the_path(make):
    """For every function f, E[f(x_t) (x_1 - x_0 - v(x_t))] = 0; here f is each coordinate, its square and 1."""
    prior, t, n = make(), 0.5, 40_000
    chosen = torch.multinomial(prior.weights, n, replacement=True, generator=rng(3))
    x_1 = torch.zeros(n, 1, 6, dtype=torch.float64)
    for k, part in enumerate(prior.components):
        here = chosen == k
        x_1[here] = part.mean + part.covariance.sample(int(here.sum()), rng(10 + k))
    x_0 = prior.source.sample(n, rng(5))
    x_t = t * x_1 + (1 - t) * x_0

    def z(v: Tensor) -> float:
        residual = (x_1 - x_0 - v).flatten(1)
        f = torch.cat([x_t.flatten(1), x_t.flatten(1).square(), torch.ones(n, 1)], 1)
        products = torch.einsum("ni,nj->nij", f, residual)
        return float((products.mean(0) / (products.std(0) / math.sqrt(n))).abs().max())

    assert z(prior.velocity(x_t, t)) < THRESHOLD
    assert z(1.3 * prior.velocity(x_t, t)) > 2 * THRESHOLD
    assert z(prior.velocity(x_t, t + 0.1)) > 2 * THRESHOLD
    if len(prior.components) > 1:  # the Gaussian with the mixture's moments has another velocity
        surrogate = Bridge(prior.covariance, prior.source, t).velocity(x_t, prior.mean)
        assert z(surrogate) > 2 * THRESHOLD


def exact_flow_map(prior: GaussianPrior, x_0: Tensor) -> Tensor:
    """Where dx/dt = v takes x_0: mode by mode x_1 = mu + sqrt(d / c) x_0, since C and C_0 share their modes."""
    modes = prior.source.modes
    scale = (prior.covariance.diagonal / prior.source.diagonal).sqrt()
    return prior.mean + modes.synthesise(scale * modes.analyse(x_0))


def smooth_prior() -> GaussianPrior:
    source = Covariance.diagonal_in(Hartley(1), torch.ones(1, 6, dtype=torch.float64))
    diagonal = torch.tensor([[3.0, 1.5, 0.7, 0.5, 0.7, 1.5]], dtype=torch.float64)
    return replace(gaussian(), source=source, covariance=Covariance.diagonal_in(Hartley(1), diagonal))


def test_samples_are_in_units_and_have_the_priors_law():
    prior = smooth_prior().in_units(5.0, 2.0)
    x = sample(prior, 4000, rng(2), steps=1).flatten(1)
    mean = 5 + 2 * prior.mean.flatten()
    L = torch.linalg.cholesky(4 * matrix(prior.covariance))
    z = torch.linalg.solve_triangular(L, (x - mean).mT, upper=False).mT
    eye = torch.eye(6, dtype=torch.float64)
    assert float(z.mean(0).abs().max()) * math.sqrt(4000) < THRESHOLD
    deviation = (z.mT @ z / 4000 - eye) * math.sqrt(4000) / (1 + eye).sqrt()
    assert float(deviation.abs().max()) < THRESHOLD
    unscaled = (z / 2).mT @ (z / 2) / 4000 - eye
    assert float(unscaled.abs().max()) * math.sqrt(4000) > 2 * THRESHOLD


def test_samples_of_a_mixture_are_of_its_components_in_their_shares():
    source = White()
    parts = []
    for offset in (-4.0, 0.0, 4.0):
        part = gaussian_prior(Matern(1.5, 0.2, 0.3), GRID, source=source)
        parts.append(replace(part, mean=torch.full((1, 6), offset, dtype=torch.float64)))
    weights = torch.tensor([0.2, 0.3, 0.5], dtype=torch.float64)
    x = sample(MixturePrior(tuple(parts), weights), 4000, rng(0), steps=100).flatten(1)
    found = torch.stack([(x.mean(1) - offset).abs() < 2 for offset in (-4.0, 0.0, 4.0)]).double().mean(1)
    assert float(((found - weights) / (weights * (1 - weights) / 4000).sqrt()).abs().max()) < THRESHOLD
    equal = torch.full((3,), 1 / 3, dtype=torch.float64)
    assert float(((found - equal) / (equal * (1 - equal) / 4000).sqrt()).abs().max()) > 2 * THRESHOLD


# mixtures


def test_a_mixture_of_one_and_a_mixture_of_equals_are_the_gaussian():
    part, x = gaussian(rank=2), normal(4, 1, 6)
    for weights in ([1.0], [0.3, 0.7]):
        prior = MixturePrior((part,) * len(weights), torch.tensor(weights))  # float32 weights serve too
        for t in TIMES:
            torch.testing.assert_close(prior.velocity(x, t), part.velocity(x, t))
        torch.testing.assert_close(matrix(prior.covariance), matrix(part.covariance))
        torch.testing.assert_close(prior.mean, part.mean)
        assert prior.weights.dtype == torch.float64


def test_moments_of_a_mixture():
    prior = mixture()
    means = torch.stack([part.mean.flatten() for part in prior.components])
    mean = prior.weights @ means
    second = sum(
        w * (matrix(part.covariance) + torch.outer(m, m))
        for w, part, m in zip(prior.weights, prior.components, means, strict=True)
    )
    torch.testing.assert_close(prior.mean.flatten(), mean)
    torch.testing.assert_close(matrix(prior.covariance), second - torch.outer(mean, mean))


def test_responsibilities_are_bayes_rule():
    prior, x, t = mixture(), normal(4, 1, 6), 0.7
    logs = torch.stack([log_density(part, x, t) for part in prior.components], 1) + prior.weights.log()
    found = prior.responsibilities(x, t)
    torch.testing.assert_close(found, torch.softmax(logs, 1))
    torch.testing.assert_close(prior.responsibilities(x, 0.0), prior.weights.expand(4, 3))  # the source says nothing


@pytest.mark.parametrize(
    "weights", [[0.5, 0.5], [0.5, 0.2, 0.2], [0.5, -0.2, 0.7], [0.5, 0.5, 0.0], [0.5, math.nan, 0.5]]
)
def test_weights_that_are_none_are_refused(weights):
    with pytest.raises(InfieldError, match="expected 3 positive weights that sum to 1"):
        MixturePrior(mixture().components, torch.tensor(weights, dtype=torch.float64))


def test_components_of_different_sources_modes_or_units_are_refused():
    half = torch.tensor([0.5, 0.5], dtype=torch.float64)
    part = gaussian()
    open_grid = Grid.regular((6,))
    own_modes = [gaussian_prior(Matern(1.5, length), open_grid) for length in (0.1, 0.5)]  # white, but in other bases
    assert torch.equal(own_modes[0].source.diagonal, own_modes[1].source.diagonal)
    for other, first in (
        (gaussian_prior(Matern(1.5, 0.3), GRID), part),
        (own_modes[1], own_modes[0]),
        (part.in_units(0.0, 2.0), part),
        (gaussian_prior(Matern(), Grid.regular((5,), periodic=True), source=Matern(0.5, 0.1)), part),
    ):
        with pytest.raises(InfieldError, match="of other grids, sources, modes or units"):
            MixturePrior((first, other), half)


# ways to a Gaussian prior


@pytest.mark.parametrize("source", [None, White(), Matern(0.5, 0.1)], ids=["default", "white", "Matern"])
@pytest.mark.parametrize(
    "grid",
    [Grid.regular((7,), periodic=True), Grid.regular((3, 4)), PointSet(((0.1,), (0.15,), (0.8,)))],
    ids=["periodic", "open", "points"],
)
def test_the_law_of_a_prior_is_the_one_that_was_named_whatever_the_source(grid, source):
    law = Matern(1.5, 0.4, 2.0)
    prior = gaussian_prior(law, grid, source=source, name="mine")
    torch.testing.assert_close(matrix(prior.covariance), matrix(law.covariance(grid)), rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(matrix(prior.source), matrix((source or White()).covariance(grid)), rtol=1e-7, atol=1e-7)
    x = normal(2, *prior.mean.shape)
    torch.testing.assert_close(
        prior.source.modes.analyse(x), prior.covariance.modes.analyse(x)
    )  # one basis, as the bridge needs
    assert prior.name == "mine" and prior.mean.abs().max() == 0 and gaussian_prior(law, grid).name == str(law)


def test_channels_are_independent_copies():
    prior = gaussian_prior(Matern(1.5, 0.4), GRID, channels=2)
    K = matrix(prior.covariance)
    one = matrix(gaussian_prior(Matern(1.5, 0.4), GRID).covariance)
    torch.testing.assert_close(K, torch.block_diag(one, one))


def test_a_prior_of_a_given_power_spectrum():
    k = torch.fft.fftfreq(8, dtype=torch.float64).abs()
    spectrum = (1 / (0.1 + k**2)).expand(2, 8).clone()
    prior = spectrum_prior(spectrum, name="red")
    x = prior.covariance.sample(20_000, rng(0))
    power = torch.fft.fft(x, norm="ortho").abs().square().mean(0)
    torch.testing.assert_close(power, spectrum, rtol=0.06, atol=0)
    assert float(x.var()) == pytest.approx(float(spectrum.mean()), rel=0.03)
    assert prior.name == "red" and prior.gaussian
    assert not torch.allclose(power, spectrum.flip(1), rtol=0.06)
    for wrong in (-1.0, math.nan):
        with pytest.raises(InfieldError, match="power spectrum"):
            spectrum_prior(torch.tensor([[1.0, wrong]]))


def test_an_empirical_prior_has_the_moments_of_its_examples():
    law = Matern(1.5, 0.3)
    offset = torch.tensor([10.0, -3.0], dtype=torch.float64).reshape(2, 1)
    scale = torch.tensor([5.0, 0.1], dtype=torch.float64).reshape(2, 1)
    fields = offset + scale * (
        law.covariance(GRID, 2).sample(3000, rng(0)) + torch.linspace(0, 1, 6, dtype=torch.float64)
    )
    prior = empirical_prior(fields, GRID, rank=12, source=Matern(0.5, 0.1))
    to_units = prior.standardisation.to_units
    torch.testing.assert_close(to_units(prior.mean), fields.mean(0))
    s = prior.standardisation.scale.expand(2, 6).flatten()
    expected = torch.from_numpy(np.cov(fields.flatten(1).numpy().T))
    torch.testing.assert_close(s[:, None] * matrix(prior.covariance) * s, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(prior.standardisation.from_units(to_units(prior.mean)), prior.mean)
    truncated = empirical_prior(fields, GRID, rank=2)
    assert truncated.covariance.rank == 2 and truncated.covariance.trace == pytest.approx(prior.covariance.trace)
    assert truncated.source.trace == 12  # white
    with pytest.raises(InfieldError, match="empirical prior"):
        empirical_prior(torch.ones(5, 1, 6), GRID)
    with pytest.raises(InfieldError, match="empirical prior"):
        empirical_prior(fields[:2], GRID)


def test_units_are_shift_and_scale():
    prior = gaussian().in_units(3.0, 2.0)
    x = normal(4, 1, 6)
    torch.testing.assert_close(prior.standardisation.to_units(x), 3 + 2 * x)
    torch.testing.assert_close(prior.standardisation.from_units(3 + 2 * x), x)
    identity = Standardisation.identity((2, 3, 4))
    assert identity.shift.shape == identity.scale.shape == (2, 1, 1)
    assert torch.equal(identity.to_units(normal(1, 2, 3, 4)), normal(1, 2, 3, 4))
    torch.testing.assert_close(prior.velocity(x, 0.3), gaussian().velocity(x, 0.3))  # of the standardised field
