"""Bridges beside laws whose denoiser is exact: identities of the channel, widths of the draws, and what goes wrong."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy import stats

from infield.core.errors import InfieldError
from infield.priors.bridges.bridge import BridgePrior, bridge_counts, precondition
from infield.priors.bridges.channels import BrownianChannel, Moments, PoissonChannel
from infield.priors.bridges.clocks import brownian_clock, geometric_clock, schedule_clock, uniform_clock
from infield.priors.bridges.exact import CommonFactorLaw, GammaLaw
from infield.priors.bridges.identities import covariance_from_mean, mean_from_marginal

LAW = GammaLaw(25.0, 25.0)
FACTOR = CommonFactorLaw.lognormal(0.08, 0.03)


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def clock(steps):
    return geometric_clock(0.5, 1e4, steps)


def drawn(law, clock, steps, shape, seed=0):
    prior = BridgePrior(PoissonChannel(), law, clock, steps)
    return prior.sample(torch.empty(shape, dtype=torch.float64), None, rng(seed))


@pytest.mark.parametrize("tau", [0.3, 40.0])
def test_tweedie_of_counts(tau):
    """Equations (9) and (10) by the marginal alone, to rounding; not those of another tau."""
    counts = torch.poisson(tau * FACTOR.sample(5, 4, rng()), generator=rng(1))
    moments = FACTOR(counts, tau)
    mean = mean_from_marginal(lambda b: FACTOR.log_marginal(b, tau), counts, tau)
    assert torch.allclose(mean, moments.mean, rtol=1e-10, atol=0)
    found = covariance_from_mean(lambda b: FACTOR(b, tau).mean, counts)
    expected = torch.diag_embed(moments.own) + torch.einsum("bri,brj->bij", moments.factors, moments.factors)
    assert torch.allclose(found, expected, rtol=1e-9, atol=1e-13)
    assert not torch.allclose(
        mean_from_marginal(lambda b: FACTOR.log_marginal(b, 1.1 * tau), counts, tau), mean, rtol=1e-3
    )


def test_counts_of_the_gamma_law_are_negative_binomial():
    prior = BridgePrior(PoissonChannel(), LAW, clock(3), "compound")
    *_, (last, counts) = prior.states(torch.zeros(20000, dtype=torch.float64), None, rng())
    law = stats.nbinom(LAW.a, LAW.b / (LAW.b + last))
    assert abs((float(counts.mean()) - law.mean()) / (law.std() / math.sqrt(20000))) < 4
    ranks = law.cdf(counts.numpy()) - law.pmf(counts.numpy()) * np.random.default_rng(0).random(20000)
    assert stats.kstest(ranks, "uniform").pvalue > 1e-3


@pytest.mark.parametrize("steps", [5, 10])
def test_compound_steps_are_exact_at_any_number(steps):
    x = drawn(LAW, clock(steps), "compound", (200000,))
    assert float(x.std()) / 0.2 == pytest.approx(1, abs=0.01)
    assert stats.kstest(x.numpy(), stats.gamma(LAW.a, scale=1 / LAW.b).cdf).pvalue > 1e-3


def test_plain_steps_are_of_first_order():
    """The closed form of their width is what is drawn; halved steps halve what is missing of the variance."""
    found = float(drawn(LAW, clock(20), "plain", (100000,)).std()) / 0.2
    assert found == pytest.approx(LAW.plain_sd_ratio(clock(20)), abs=0.008)
    missing = [1 - LAW.plain_sd_ratio(geometric_clock(1e-3, 1e9, n)) ** 2 for n in (160, 320, 640, 1280)]
    order = np.diff(np.log(missing)) / np.log(0.5)
    assert order == pytest.approx(1, abs=0.05)
    assert LAW.plain_sd_ratio(uniform_clock(1e4, 20)) < 0.5  # the same number of steps, spent too late


def test_common_factor_needs_a_joint_draw_in_few_steps():
    """sd of a region's mean over the truth at 20 steps: joint as the law, voxel by voxel too narrow (1.00, .96)."""
    ratio = {}
    for rank in (0, 1):
        law = CommonFactorLaw.lognormal(0.08, 0.03, rank)
        x = drawn(law, geometric_clock(5.0, 3e4, 20), "compound", (8000, 16), 1)
        ratio[rank] = float(x.mean(1).std()) / math.sqrt(law.mean_variance(16))
    assert ratio[1] == pytest.approx(1, abs=0.03)
    assert ratio[0] < 0.975


def test_factors_are_drawn_once_a_subject():
    moments = Moments(torch.ones(6, 1, 4), torch.full((6, 1, 4), 1e-14), 0.1 * torch.ones(6, 1, 1, 4))
    subjects = torch.tensor([3, 3, 3, 9, 9, 9])
    for channel in (PoissonChannel(), BrownianChannel(0.1)):
        x = channel.draw_target(moments, rng(), subjects).mean((1, 2))
        assert torch.allclose(x[:3], x[:1].expand(3), atol=1e-5) and torch.allclose(x[3:], x[3:4].expand(3), atol=1e-5)
        assert abs(float(x[0] - x[3])) > 1e-3
        assert float(channel.draw_target(moments, rng()).mean((1, 2))[:3].std()) > 1e-3
    with pytest.raises(InfieldError, match="one for each of 6"):
        PoissonChannel().draw_target(moments, rng(), subjects[:2])


def test_moments_of_a_drawn_target():
    mean, own = torch.full((200000, 2), 1.2, dtype=torch.float64), torch.full((200000, 2), 0.01, dtype=torch.float64)
    factors = torch.tensor([[0.1, 0.05], [0.0, -0.1]], dtype=torch.float64).expand(200000, 2, 2)
    expected = torch.diag(own[0]) + factors[0].T @ factors[0]
    for channel in (PoissonChannel(), BrownianChannel(1.0)):
        x = channel.draw_target(Moments(mean, own, factors), rng())
        assert torch.allclose(x.mean(0), mean[0], atol=2e-3)
        assert torch.allclose(torch.cov(x.T), expected, atol=3e-4)


def test_brownian_bridge_is_a_channel():
    """Equation (3): the transition of a Brownian bridge given its end; the clock of an I2SB schedule."""
    variances, s = [0.02, 0.05, 0.01, 0.03], math.sqrt(0.11)
    times, found = schedule_clock(variances)
    assert found == pytest.approx(s)
    t = [tau / (1 + tau) for tau in times]
    assert t == pytest.approx([0.03 / 0.11, 0.04 / 0.11, 0.09 / 0.11])
    x_b, x_f = torch.full((200000,), 1.0, dtype=torch.float64), torch.full((200000,), 1.5, dtype=torch.float64)
    channel = BrownianChannel(s)
    prior = BridgePrior(channel, lambda state, tau, context: Moments(x_f), times)
    x = [channel.point_on_bridge(b, tau, x_b) for tau, b in prior.states(torch.zeros_like(x_b), None, rng())]
    for i in range(3):
        assert float(x[i].mean()) == pytest.approx(1 + 0.5 * t[i], abs=4e-3)
        assert float(x[i].std()) == pytest.approx(s * math.sqrt(t[i] * (1 - t[i])), rel=0.01)
    mean = ((1 - t[1]) * x[0] + (t[1] - t[0]) * x_f) / (1 - t[0])
    assert float((x[1] - mean).var()) == pytest.approx(s**2 * (t[1] - t[0]) * (1 - t[1]) / (1 - t[0]), rel=0.02)
    assert brownian_clock(4) == pytest.approx((1 / 3, 1.0, 3.0))


def test_compound_brownian_steps_are_exact_under_a_gaussian_law():
    v0, s = 0.04, 0.3

    def denoiser(state, tau, context):
        left = 1 / (1 / v0 + tau / s**2)
        return Moments(left * (1 / v0 + state / s**2), torch.full_like(state, left))

    like = torch.empty(100000, dtype=torch.float64)
    ratio = {
        steps: float(
            BridgePrior(BrownianChannel(s), denoiser, brownian_clock(6), steps).sample(like, None, rng()).std()
        )
        / math.sqrt(v0)
        for steps in ("plain", "compound")
    }
    assert ratio["compound"] == pytest.approx(1, abs=0.01)
    assert ratio["plain"] < 0.85


@pytest.mark.parametrize("t", [0.25, 0.9])
def test_bridge_counts_stay_poisson(t):
    x_b, x_f, n = 5.0, 8.0, 50000
    n_b, n_f = (torch.poisson(torch.full((n,), x, dtype=torch.float64), generator=rng(int(x))) for x in (x_b, x_f))
    counts = bridge_counts(n_b, n_f, t, rng(3)).numpy().astype(int)

    def p_value(rate):
        law = stats.poisson(rate)
        edges = np.arange(int(law.ppf(1e-3)), int(law.ppf(1 - 1e-3)) + 1)
        found = np.bincount(counts.clip(edges[0], edges[-1]) - edges[0], minlength=len(edges))
        p = law.pmf(edges)
        p[0], p[-1] = law.cdf(edges[0]), law.sf(edges[-1] - 1)
        return stats.chisquare(found, n * p / p.sum()).pvalue

    assert p_value((1 - t) * x_b + t * x_f) > 1e-3
    assert p_value(0.97 * ((1 - t) * x_b + t * x_f)) < 1e-6
    assert torch.equal(bridge_counts(n_b, n_f, 0.0, rng()), n_b)
    assert torch.equal(bridge_counts(n_b, n_f, 1.0, rng()), n_f)


def test_preconditioner_from_the_baseline_to_the_counts():
    x_b, v0 = torch.tensor([0.9, 1.4], dtype=torch.float64), 0.01
    start, left = precondition(torch.zeros(2, dtype=torch.float64), 0.0, x_b, v0)
    assert torch.equal(start, x_b) and torch.allclose(left, torch.full_like(left, 0.1))
    counts = 1e9 * torch.tensor([1.1, 1.2], dtype=torch.float64)
    end, left = precondition(counts, 1e9, x_b, v0)
    assert torch.allclose(end, counts / 1e9, atol=1e-6) and float(left.max()) < 1e-4
    tau, g = 30.0, 0.01 / (0.01 + x_b / 30)
    b = torch.tensor([20.0, 50.0], dtype=torch.float64)
    assert torch.allclose(precondition(b, tau, x_b, v0)[0], x_b + g * (b / tau - x_b), rtol=1e-12)


@pytest.mark.parametrize("bad", [(), (1.0, 1.0), (0.0, 2.0)])
def test_a_clock_rises(bad):
    with pytest.raises(InfieldError, match="times that rise"):
        BridgePrior(PoissonChannel(), LAW, bad)
    with pytest.raises(InfieldError):
        geometric_clock(1.0, 1.0, 20)


def test_compound_steps_ask_for_a_variance():
    prior = BridgePrior(PoissonChannel(), lambda b, tau, c: Moments(b + 1), (1.0, 2.0), "compound")
    with pytest.raises(InfieldError, match="take plain steps"):
        prior.sample(torch.empty(3), None, rng())


@pytest.mark.parametrize("bad", [(0.3, 0.0), (0.3, -0.1), (0.3,), ((0.3, 0.2),)])
def test_variances_of_a_schedule_are_two_and_above_zero(bad):
    with pytest.raises(InfieldError, match="expected 2 variances above 0"):
        schedule_clock(bad)
