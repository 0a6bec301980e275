"""A bridge of regional vectors: its Gaussian model is the exact denoiser of Gaussian pairs, and a file holds it."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
import torch

from infield.core.errors import InfieldError
from infield.priors.bridges.bridge import BridgePrior
from infield.priors.bridges.channels import BrownianChannel, PoissonChannel
from infield.priors.bridges.clocks import geometric_clock
from infield.priors.bridges.region_bridge import RegionBridge, from_entry, make_channel, to_entry
from infield.priors.bridges.regions import ChangeModel, RegionContext, RegionDenoiser, bridge_loss
from infield.priors.networks.mlp import Perceptron

REGIONS = 5


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def pairs(n, seed=0):
    """Gaussian pairs: a change of 0.02 a year with one common factor, whose variance grows with the years squared."""
    g = rng(seed)
    years = 1 + 3 * torch.rand(n, generator=g, dtype=torch.float64)
    x_b = 1.2 + 0.1 * torch.randn(n, REGIONS, generator=g, dtype=torch.float64)
    z = torch.randn(n, 1, generator=g, dtype=torch.float64) + 0.3 * torch.randn(
        n, REGIONS, generator=g, dtype=torch.float64
    )
    return x_b, x_b + 0.02 * years[:, None] + 0.03 * years[:, None] * z, years


def bridge(channel=None, steps=20, channels=1):
    channel = channel or BrownianChannel(1.0)
    torch.manual_seed(0)
    denoiser = RegionDenoiser(
        ChangeModel.fit(*pairs(20000), channel), Perceptron(channels, (REGIONS,), 16, 1, 2, times=2)
    )
    names = tuple(f"region {i}" for i in range(REGIONS))
    clock, kind = geometric_clock(0.5, 1e5, steps), "compound" if channels == 2 else "plain"
    return RegionBridge(denoiser, channel, clock, names, "SUVR", True, {"data": "test"}, kind)


def test_the_gaussian_model_alone_draws_gaussian_pairs():
    """The network is zero before training: mean and covariance of the draws are those of the pairs."""
    x_b, x_f, years = pairs(6000, 1)
    prior, context = bridge(steps=160), RegionContext(x_b, years)
    x = prior.prior.sample(x_b, context, rng())
    found, expected = (torch.cov(((v - x_b) / years[:, None]).T) for v in (x, x_f))
    assert torch.allclose(found, expected, atol=0.12 * float(expected.diagonal().mean()))
    assert torch.allclose(((x - x_b) / years[:, None]).mean(0), torch.full((REGIONS,), 0.02).double(), atol=2e-3)
    uncorrelated = replace(prior.denoiser.change, modes=torch.eye(REGIONS, dtype=torch.float64))
    x = BridgePrior(prior.channel, RegionDenoiser(uncorrelated, prior.denoiser.network), prior.clock).sample(
        x_b, context, rng()
    )
    assert not torch.allclose(torch.cov(((x - x_b) / years[:, None]).T), expected, atol=0.3 * float(expected[0, 0]))


def test_a_dispersion_draws_gaussian_pairs_in_a_few_steps():
    """Before training it is that of the Gaussian model: compound steps are exact where plain ones miss a third."""
    x_b, x_f, years = pairs(6000, 1)
    context, covariances = RegionContext(x_b, years), []
    for prior in (bridge(steps=6, channels=2), bridge(PoissonChannel(), steps=6, channels=2), bridge(steps=6)):
        x = prior.prior.sample(x_b, context, rng())
        covariances.append(torch.cov(((x - x_b) / years[:, None]).T))
    expected = torch.cov(((x_f - x_b) / years[:, None]).T)
    for found in covariances[:2]:
        assert torch.allclose(found, expected, atol=0.1 * float(expected.diagonal().mean()))
    assert float(covariances[2].trace() / expected.trace()) < 0.7


def test_the_dispersion_is_fitted_to_errors_that_it_does_not_move():
    x_b, x_f, years = pairs(500, 3)
    tau = torch.full((500,), 20.0, dtype=torch.float64)
    state = PoissonChannel().draw_increments(x_f, tau[:, None], rng())
    gradients = []
    for channels in (1, 2):
        prior = bridge(PoissonChannel(), channels=channels)
        loss = bridge_loss(prior.denoiser, state, tau, x_f, RegionContext(x_b, years)).mean()
        loss.backward()
        gradients.append(prior.denoiser.network.layers[-1].bias.grad.reshape(channels, REGIONS))
    assert float(loss.detach()) == pytest.approx(1.5, abs=0.15)  # of the right Gaussian model, s = 1
    assert torch.allclose(gradients[0][0], gradients[1][0]) and float(gradients[1][1].abs().max()) < 0.1
    state = PoissonChannel().draw_increments(x_b + 3 * (x_f - x_b), tau[:, None], rng())
    bridge_loss(prior.denoiser, state, tau, x_b + 3 * (x_f - x_b), RegionContext(x_b, years)).mean().backward()
    assert float(prior.denoiser.network.layers[-1].bias.grad.reshape(2, REGIONS)[1].max()) < -0.2  # it would widen


def test_posterior_in_modes_is_that_of_dense_algebra():
    channel = BrownianChannel(0.7)
    change = ChangeModel.fit(*pairs(5000), channel)
    x_b, x_f, years = pairs(3, 2)
    tau = torch.tensor([0.0, 3.0, 500.0], dtype=torch.float64)
    state = tau[:, None] * x_f + channel.s * tau[:, None].sqrt() * torch.randn(3, REGIONS, generator=rng()).double()
    m, towards, left = change.posterior(state, tau, x_b, years)
    for i in range(3):
        root = change.noise.sqrt()
        c = root[:, None] * (change.modes * change.prior_variance(years[i : i + 1])[0]) @ change.modes.T * root
        gain = c @ torch.linalg.inv(torch.eye(REGIONS).double() + tau[i] * c / channel.s**2) / channel.s**2
        assert torch.allclose(change.from_modes(towards)[i], gain @ (state[i] - tau[i] * m[i]), rtol=1e-9)
    assert torch.allclose(left[0].square(), change.prior_variance(years)[0])


def test_loss_is_one_for_the_gaussian_model():
    prior = bridge(PoissonChannel())
    prior.denoiser.network.requires_grad_(False)
    x_b, x_f, years = pairs(4000, 3)
    tau = torch.full((4000,), 20.0, dtype=torch.float64)
    state = PoissonChannel().draw_increments(x_f, tau[:, None], rng())
    assert float(bridge_loss(prior.denoiser, state, tau, x_f, RegionContext(x_b, years)).mean()) == pytest.approx(
        1, abs=0.05
    )
    assert float(bridge_loss(prior.denoiser, state, 2 * tau, x_f, RegionContext(x_b, years)).mean()) > 1.2


def test_a_balanced_loss_is_one_too_and_counts_regions_alike():
    """At tau = 0 a region's error, 3 standard deviations too large, adds 9 / regions to it, whichever region it is."""
    prior = bridge()
    prior.denoiser.network.requires_grad_(False)
    change, (x_b, x_f, years) = prior.denoiser.change, pairs(4000, 3)
    context, tau = RegionContext(x_b, years), torch.zeros(4000, dtype=torch.float64)

    def loss(x_f, balance):
        return float(bridge_loss(prior.denoiser, 0 * x_b, tau, x_f, context, balance).mean())

    sd = (change.prior_variance(years).sqrt()[:, None] * change.modes).square().sum(-1).sqrt() * change.noise.sqrt()
    right, balanced, plain = loss(x_f, 1.0), [], []
    assert right == pytest.approx(1, abs=0.05)
    assert loss(x_f, 0.25) == pytest.approx(0.75 * loss(x_f, 0.0) + 0.25 * right)
    for k in range(REGIONS):
        shift = torch.zeros_like(x_f)
        shift[:, k] = 3 * sd[:, k] * torch.randn(4000, generator=rng(k), dtype=torch.float64)
        balanced.append(loss(x_f + shift, 1.0) - right)
        plain.append(loss(x_f + shift, 0.0))
    assert balanced == pytest.approx([9 / REGIONS] * REGIONS, rel=0.1)
    assert min(plain) - right > 2 * 9 / REGIONS  # modes of little variance count most there: the control


def test_a_file_holds_the_bridge():
    prior = bridge(PoissonChannel(), channels=2)
    x_b, _, years = pairs(4, 4)
    again = from_entry(to_entry(prior))
    assert again.steps == "compound" and from_entry({**to_entry(bridge()), "steps": None}).steps == "plain"
    assert again.synthetic and again.clock == prior.clock and again.regions == prior.regions
    found, expected = (b.sample(x_b, years, 3, rng(5)) for b in (again, prior))
    assert torch.equal(found, expected) and found.shape == (4, 3, REGIONS) and float(found.min()) > 0
    assert not torch.equal(found, prior.sample(x_b, years, 3, rng(6)))
    torch.save(to_entry(prior), file := io.BytesIO())
    assert file.tell() < 100_000  # and not the 20,000 pairs of the fit with it


@pytest.mark.parametrize(("years", "words"), [(0.0, "above 0"), (-1.0, "above 0"), (9.0, "range of training")])
def test_impossible_years(years, words):
    prior = bridge()
    x_b = pairs(2)[0]
    with pytest.raises(InfieldError, match=words):
        prior.sample(x_b, years, 2, rng())
    if years == 9.0:
        assert prior.sample(x_b, years, 2, rng(), extrapolate=True).shape == (2, 2, REGIONS)


def test_impossible_baselines_and_channels():
    with pytest.raises(InfieldError, match="a row of 5 regions"):
        bridge().sample(torch.ones(2, 4), 2.0, 2, rng())
    with pytest.raises(InfieldError, match="poisson or brownian"):
        make_channel("laplace")
    with pytest.raises(InfieldError, match="pairs of a bridge"):
        ChangeModel.fit(*pairs(20), BrownianChannel(1.0))
