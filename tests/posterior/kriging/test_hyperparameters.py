"""Draws of the hyperparameters: moments by quadrature, orders by their evidence, states of their own, calibration."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from torch import Tensor

from infield.posterior.kriging import hyperparameters
from infield.posterior.kriging.family import Family, extents
from infield.posterior.kriging.fit import Settings, fit
from infield.posterior.kriging.hyperparameters import sample
from infield.posterior.kriging.law import Geometry, StationaryLaw, matern_unit
from infield.posterior.kriging.observations import Observations, Trend

PLANE = Geometry(("y", "x"), ("m", "m"), (None, None))
LINE = Geometry(("x",), ("m",), (None,))


def drawn(geometry, n, *, nu=1.5, variance=1.0, lengths=None, noise=0.3, seed=0, mean=3.0, x=None, extra=0):
    """Positions, noise-free values, data; of a constant plus a field, and a field at further positions."""
    generator = torch.Generator().manual_seed(seed)
    if x is None:
        x = torch.rand((n + extra, geometry.ndim), generator=generator, dtype=torch.float64)
    law = StationaryLaw(geometry, nu, variance, lengths or (0.2,) * geometry.ndim)
    z = law.embed(x)
    K = law.between(z, z) + 1e-10 * variance * torch.eye(len(x), dtype=torch.float64)
    f = mean + torch.linalg.cholesky(K) @ torch.randn(len(x), generator=generator, dtype=torch.float64)
    return x, f, f + noise * torch.randn(len(x), generator=generator, dtype=torch.float64)


def observations(geometry, x, y, noise, kind="constant"):
    return Observations(x, y, torch.full_like(y, noise**2), Trend.of(kind, geometry, x)(x))


# quadrature


def by_quadrature(found, data, nu: float, length_prior: float, cells: int = 76) -> tuple[Tensor, Tensor, float]:
    """Mean and standard deviation of (log variance, log length), and log Z, under hyperpriors written out anew."""
    y, noise = (data.y - found.centre) / found.scale, data.noise / found.scale**2
    variances = torch.linspace(-7.0, 14.0, cells + 30, dtype=torch.float64)
    lengths = torch.linspace(-9.0, 6.0, cells, dtype=torch.float64)
    distance = torch.cdist(data.x, data.x)
    flat = 100.0 * data.design @ data.design.mT + torch.diag(noise)
    rows, shown = [], []
    for length in lengths:
        M = matern_unit(distance / length.exp(), nu)
        shown.append(1 - float(M.mean()))  # expected variance around their mean, of a field of variance 1
        K = variances.exp()[:, None, None] * M + flat
        rows.append(torch.distributions.MultivariateNormal(torch.zeros_like(y), K).log_prob(y))
    log_p = torch.stack(rows, 1)
    expected = variances[:, None] + torch.tensor(shown, dtype=torch.float64).clamp_min(1e-4).log()
    log_p = log_p + torch.distributions.Normal(0.0, 2.0).log_prob(expected)
    log_p = log_p + torch.distributions.Normal(length_prior, 1.5).log_prob(lengths)
    p = log_p.flatten().softmax(0).reshape(log_p.shape)
    assert float(p[0].sum() + p[-1].sum() + p[:, 0].sum() + p[:, -1].sum()) < 1e-4
    moments = []
    for weights, values in ((p.sum(1), variances), (p.sum(0), lengths)):
        mean = weights @ values
        moments.append((mean, (weights @ (values - mean) ** 2).sqrt()))
    return *(torch.stack(part) for part in zip(*moments, strict=True)), float(log_p.flatten().logsumexp(0))


def z_scores(chain, mean: Tensor, sd: Tensor) -> Tensor:
    error = sd * math.sqrt(1 / len(chain.states) + 1 / chain.effective)
    return (chain.states.mean(0) - mean) / error


@pytest.mark.parametrize("n", [8, 40])
def test_moments_are_those_of_quadrature(n):
    """Also where eight data leave the posterior far from normal; a hyperprior of other lengths is told apart."""
    x, _, y = drawn(PLANE, n, seed=n)
    data = observations(PLANE, x, y, 0.3)
    found = fit([data], PLANE, noise_known=True, settings=Settings(orders=(1.5,), shapes=("isotropic",)))
    chain = sample(found, [data], PLANE, noise_known=True, states=2000, seed=3)
    assert chain.effective > 100 and not chain.warnings
    expected = math.log(0.25) + math.log(float((x.amax(0) - x.amin(0)).max()))
    mean, sd, _ = by_quadrature(found, data, 1.5, expected)
    z = z_scores(chain, mean, sd)
    assert float(z.abs().max()) < 4, z
    assert ((chain.states.std(0) / sd).log().abs() < 0.25).all()
    wrong, _, _ = by_quadrature(found, data, 1.5, expected + 3.0)
    assert float(z_scores(chain, wrong, sd).abs().max()) > 5


def test_orders_share_the_posterior_by_their_evidence():
    x, _, y = drawn(PLANE, 30, seed=5)
    data = observations(PLANE, x, y, 0.3)
    found = fit([data], PLANE, noise_known=True, settings=Settings(shapes=("isotropic",)))
    chain = sample(found, [data], PLANE, noise_known=True, states=1000, seed=0)
    assert set(chain.orders) == {0.5, 1.5, 2.5}
    expected = math.log(0.25) + math.log(float((x.amax(0) - x.amin(0)).max()))
    log_z = torch.tensor([by_quadrature(found, data, nu, expected)[2] for nu in chain.orders])
    for nu, share, exact in zip(chain.orders, chain.orders.values(), log_z.softmax(0).tolist(), strict=True):
        assert share == pytest.approx(exact, abs=0.06)
        of_states = sum(law.nu == nu for law in chain.laws) / 1000
        assert of_states == pytest.approx(share, abs=4 * math.sqrt(0.25 / 1000))


def test_an_order_that_the_data_rule_out_has_no_state():
    x, _, y = drawn(PLANE, 150, nu=2.5, lengths=(0.3, 0.3), noise=0.02, seed=6)
    data = observations(PLANE, x, y, 0.02)
    found = fit([data], PLANE, noise_known=True)
    chain = sample(found, [data], PLANE, noise_known=True, seed=0)
    assert 0.5 not in chain.orders


# states


def test_state_i_depends_on_the_seed_and_i_alone():
    x, _, y = drawn(PLANE, 40)
    data = observations(PLANE, x, y, 1.0)
    found = fit([data], PLANE, noise_known=False)
    few, many, other = (
        sample(found, [data], PLANE, noise_known=False, states=states, seed=seed)
        for states, seed in ((4, 1), (9, 1), (4, 2))
    )
    assert torch.equal(few.states, many.states[:4])
    assert few.laws == many.laws[:4]
    assert not torch.equal(few.states, other.states)


def test_states_are_in_units_of_the_field():
    """Data in other units, and noise told as a share of an unknown level: laws, noise and trend follow."""
    x, _, y = drawn(PLANE, 60, seed=2)
    plain = observations(PLANE, x, y, 1.0)
    large = Observations(x, 1000 * y, torch.full_like(y, 7.0), plain.design)
    chains = []
    for data in (plain, large):
        found = fit([data], PLANE, noise_known=False)
        chains.append((found, sample(found, [data], PLANE, noise_known=False, states=5, seed=0)))
    (a, of_plain), (b, of_large) = chains
    assert b.noise_factor * 7.0 == pytest.approx(1e6 * a.noise_factor, rel=1e-3)
    torch.testing.assert_close(of_large.noise_factors * 7.0, 1e6 * of_plain.noise_factors, rtol=1e-3, atol=0)
    for one, two in zip(of_plain.laws, of_large.laws, strict=True):
        assert two.variance == pytest.approx(1e6 * one.variance, rel=1e-3)
        assert two.lengths == pytest.approx(one.lengths, rel=1e-3)
    for one, two in zip(of_plain.coefficients, of_large.coefficients, strict=True):
        torch.testing.assert_close(two[0].mean, 1000 * one[0].mean, rtol=1e-3, atol=1e-3)
        torch.testing.assert_close(two[0].covariance, 1e6 * one[0].covariance, rtol=1e-3, atol=0)


def test_coefficients_are_those_of_dense_kriging_under_their_state():
    x, _, y = drawn(PLANE, 30, seed=4)
    data = observations(PLANE, x, y, 0.3, "linear")
    found = fit([data], PLANE, noise_known=True)
    chain = sample(found, [data], PLANE, noise_known=True, states=3, seed=0)
    for law, (own,) in zip(chain.laws, chain.coefficients, strict=True):
        z = law.embed(x)
        P = (law.between(z, z) + torch.diag(data.noise)).inverse()
        B = torch.eye(3, dtype=torch.float64) / (10 * found.scale) ** 2
        covariance = (data.design.mT @ P @ data.design + B).inverse()
        torch.testing.assert_close(own.covariance, covariance, rtol=1e-5, atol=1e-8)
        torch.testing.assert_close(own.mean, covariance @ data.design.mT @ P @ (y - found.centre), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("scales", [(1.0, 1.0), (1.0, 0.25)])
def test_turned_axes_have_one_angle_a_law(scales):
    """Angles span half a quarter turn to either side of the mode: no law is counted twice."""
    x, _, y = drawn(PLANE, 60, lengths=tuple(0.4 * s for s in scales), seed=1)
    data = observations(PLANE, x, y, 0.3)
    family = Family(PLANE, 1.5, "turned", extents(PLANE, x), False)
    found = fit([data], PLANE, noise_known=True, settings=Settings(orders=(1.5,), shapes=("turned",)))
    found = replace(found, family=family, theta=torch.tensor([0.0, *(math.log(0.4 * s) for s in scales), 0.0]).double(),
                    covariance=torch.diag(torch.tensor([0.1, 0.1, 0.1, 0.05])).double())  # fmt: skip
    chain = sample(found, [data], PLANE, noise_known=True, states=400, seed=0)
    angles = chain.states[:, 3]
    assert chain.effective > 100
    assert float(angles.abs().max()) <= math.pi / 4
    if scales[1] < 1:
        assert float(angles.std()) < 0.2


def test_few_effective_draws_are_said(monkeypatch):
    monkeypatch.setattr(hyperparameters, "DRAWS_PER_PROPOSAL", 20)
    monkeypatch.setattr(hyperparameters, "MAX_PROPOSALS", 1)
    x, _, y = drawn(PLANE, 30)
    data = observations(PLANE, x, y, 0.3)
    found = fit([data], PLANE, noise_known=True)
    chain = sample(found, [data], PLANE, noise_known=True, states=3, seed=0)
    assert chain.effective < 100 and "effective draws" in chain.warnings[0]


@pytest.mark.slow
def test_many_data_by_vecchia():
    """520 data: the evidence is Vecchia's; states scatter as the curvature says."""
    generator = torch.Generator().manual_seed(0)
    x = torch.rand((520, 2), generator=generator, dtype=torch.float64)
    _, _, y = drawn(PLANE, 520, x=x, lengths=(0.1, 0.1), seed=0)
    data = observations(PLANE, x, y, 0.3)
    found = fit([data], PLANE, noise_known=True, settings=Settings(orders=(1.5,), shapes=("isotropic",)))
    chain = sample(found, [data], PLANE, noise_known=True, states=500, seed=0)
    assert chain.effective > 100
    assert ((chain.states.std(0) / torch.tensor(found.errors)).log().abs() < 0.4).all()


# calibration


def marginal_rank(chain, found, data, target: Tensor, truth: float, nu: float) -> tuple[float, float]:
    """Probability below the truth of the field at a target: mixture over states, and plug-in."""
    y = data.y - found.centre

    def of(law, coefficients, factor):
        z, t = law.embed(data.x), law.embed(target)
        K = law.between(z, z) + torch.diag(factor * data.noise)
        w = torch.linalg.solve(K, law.between(z, t))[:, 0]
        f = 1 - w @ data.design[:, 0]
        mean = w @ (y - coefficients.mean * data.design[:, 0]) + coefficients.mean
        variance = law.variance - w @ law.between(z, t)[:, 0] + f**2 * coefficients.covariance[0, 0]
        return float(torch.special.ndtr((truth - found.centre - mean[0]) / variance.sqrt()))

    states = zip(chain.laws, (c[0] for c in chain.coefficients), chain.noise_factors, strict=True)
    mixture = np.mean([of(*state) for state in states])
    return float(mixture), of(found.law, found.coefficients[0], found.noise_factor)


@pytest.mark.slow
@pytest.mark.parametrize("geometry", [LINE, PLANE], ids=["line", "plane"])
def test_calibration_over_the_hyperprior(geometry, capsys, monkeypatch):
    """100 fields of 60 data, theta from the hyperprior: ranks of theta and of the field at a target are uniform.

    The hyperprior is stated for a variance around the mean that a fit takes from its data: here it is known, and one.
    """
    monkeypatch.setattr("infield.posterior.kriging.fit.location", lambda channels: (0.0, 1.0))
    ranks, plug_in = [], []
    for seed in range(100):
        generator = torch.Generator().manual_seed(1000 + seed)
        x = torch.rand((61, geometry.ndim), generator=generator, dtype=torch.float64)
        family = Family(geometry, 1.5, "isotropic", extents(geometry, x[:60]), True)
        mean, sd = family.prior
        theta = mean + sd * torch.randn(3, generator=generator, dtype=torch.float64)
        among = family.kernel(theta, x[:60])[0]
        theta[0] -= (1 - matern_unit(torch.cdist(among, among), 1.5).mean()).clamp_min(1e-4).log()
        z, variance, noise = family.kernel(theta, x)
        K = variance * matern_unit(torch.cdist(z, z), 1.5) + 1e-10 * torch.eye(61, dtype=torch.float64)
        white = torch.randn(2, 61, generator=generator, dtype=torch.float64)
        trend = 10 * torch.randn(1, generator=generator, dtype=torch.float64)
        f = trend + torch.linalg.cholesky(K) @ white[0]
        y = (f + noise.sqrt() * white[1])[:60]
        data = observations(geometry, x[:60], y, 1.0)
        settings = Settings(orders=(1.5,), shapes=("isotropic",))
        found = fit([data], geometry, noise_known=False, settings=settings)
        chain = sample(found, [data], geometry, noise_known=False, states=100, seed=seed)
        below = (chain.states < theta).double().mean(0).tolist()
        of_field, plugged = marginal_rank(chain, found, data, x[60:], float(f[60]), 1.5)
        ranks.append([*below, of_field])
        plug_in.append(plugged)
    p = [kstest(column, "uniform").pvalue for column in np.array(ranks).T]
    with capsys.disabled():
        print(f"\np of ranks of variance, length, noise, field: {p}; plug-in: {kstest(plug_in, 'uniform').pvalue}")
    assert min(p) > 0.01 / len(p), p
