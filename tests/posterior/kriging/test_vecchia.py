"""Evidence of stationary laws: the dense normal density; its gradient by differences; few terms that stand for all."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from infield.core.errors import InfieldError
from infield.core.grid import Axis, Grid
from infield.posterior.kriging.dense import Dense
from infield.posterior.kriging.family import Family, extents
from infield.posterior.kriging.law import ORDERS, Geometry, StationaryLaw, matern_slope, matern_unit
from infield.posterior.kriging.observations import Observations, Trend
from infield.posterior.kriging.vecchia import Vecchia, neighbour_terms

OPEN = Geometry(("y", "x"), ("m", "m"), (None, None))
PERIODIC = Geometry(("y", "x"), ("m", "m"), (None, 2.0))
SPHERE = Geometry(("lat", "lon"), ("degrees_north", "degrees_east"), (None, None), (1, 0))
SPACE_TIME = Geometry(("t", "y", "x"), ("days", "m", "m"), (None, None, None))
LINE = Geometry(("x",), ("m",), (None,))
CASES = [
    (LINE, "isotropic"), (OPEN, "isotropic"), (OPEN, "axes"), (OPEN, "turned"), (PERIODIC, "axes"),
    (SPHERE, "isotropic"), (SPACE_TIME, "isotropic"), (SPACE_TIME, "axes"),
]  # fmt: skip


def positions(geometry: Geometry, n: int, generator: torch.Generator) -> Tensor:
    x = torch.rand((n, geometry.ndim), generator=generator, dtype=torch.float64)
    return x * 60 + 10 if geometry.sphere else x * torch.arange(1, geometry.ndim + 1)


def example(geometry: Geometry, shape: str, nu: float, n: int, noise: bool = True, seed: int = 0):
    """Data of a trend and white noise, and theta near the hyperprior's mean: any will do for an identity."""
    generator = torch.Generator().manual_seed(seed)
    x = positions(geometry, n, generator)
    trend = Trend.of("linear", geometry, x)
    y = 0.5 + torch.randn(n, generator=generator, dtype=torch.float64)
    levels = 0.1 + torch.rand(n, generator=generator, dtype=torch.float64)
    data = Observations(x, y, levels, trend(x))
    family = Family(geometry, nu, shape, extents(geometry, x), noise)
    mean, _ = family.prior
    theta = mean + 0.3 * torch.randn(len(mean), generator=generator, dtype=torch.float64)
    return data, family, theta, torch.full((data.design.shape[1],), 100.0, dtype=torch.float64)


def vecchia(data: Observations, family: Family, theta: Tensor, prior_variance: Tensor, m: int, chosen=None) -> Vecchia:
    z, _, _ = family.kernel(theta, data.x)
    chosen = torch.arange(len(data)) if chosen is None else chosen
    terms = neighbour_terms(z, chosen, m)
    return Vecchia(data, terms, prior_variance, family.nu, len(data) / len(chosen))


def normal_density(data: Observations, family: Family, theta: Tensor, prior_variance: Tensor) -> float:
    """log N(y; 0, K + F B F^T), by torch's own."""
    z, variance, factor = family.kernel(theta, data.x)
    distance = (z[:, None] - z[None]).square().sum(2).sqrt()
    K = variance * matern_unit(distance, family.nu) + torch.diag(factor * data.noise)
    K = K + data.design @ torch.diag(prior_variance) @ data.design.mT
    law = torch.distributions.MultivariateNormal(torch.zeros_like(data.y), K)
    return float(law.log_prob(data.y))


@pytest.mark.parametrize("nu", ORDERS)
@pytest.mark.parametrize(("geometry", "shape"), CASES)
def test_evidence_with_all_predecessors_is_the_normal_density_with_the_trend_integrated_out(geometry, shape, nu):
    data, family, theta, prior_variance = example(geometry, shape, nu, 40)
    expected = normal_density(data, family, theta, prior_variance)
    for evidence in (vecchia(data, family, theta, prior_variance, 39), Dense(data, prior_variance, nu)):
        sums = evidence.whitened(lambda x: family.kernel(theta, x))
        assert float(sums.log_evidence(prior_variance)) == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize("exact", [False, True])
@pytest.mark.parametrize("nu", ORDERS)
@pytest.mark.parametrize(("geometry", "shape"), CASES)
def test_gradient_is_that_of_differences(geometry, shape, nu, exact):
    data, family, theta, prior_variance = example(geometry, shape, nu, 50)
    evidence = Dense(data, prior_variance, nu) if exact else vecchia(data, family, theta, prior_variance, 7)
    value, gradient = evidence.value_and_gradient(family.kernel, theta)

    def at(moved: Tensor) -> float:
        return float(evidence.whitened(lambda x: family.kernel(moved, x)).log_evidence(prior_variance))

    assert value == pytest.approx(at(theta), abs=1e-9)
    for i in range(len(theta)):
        shift = torch.zeros_like(theta)
        shift[i] = 1e-5
        difference = (at(theta + shift) - at(theta - shift)) / 2e-5
        assert float(gradient[i]) == pytest.approx(difference, abs=2e-6 * (1 + abs(difference))), family.names[i]


def test_gradient_of_weighted_batches_is_that_of_differences(monkeypatch):
    monkeypatch.setattr("infield.posterior.kriging.vecchia.BATCH_ENTRIES", 300)
    data, family, theta, prior_variance = example(OPEN, "turned", 1.5, 60)
    evidence = vecchia(data, family, theta, prior_variance, 7, torch.arange(0, 60, 3))
    assert len(evidence.batches()) > 1
    _, gradient = evidence.value_and_gradient(family.kernel, theta)
    for i in range(len(theta)):
        shift = torch.zeros_like(theta)
        shift[i] = 1e-5
        up, down = (
            float(evidence.whitened(lambda x, at=at: family.kernel(at, x)).log_evidence(prior_variance))
            for at in (theta + shift, theta - shift)
        )
        assert float(gradient[i]) == pytest.approx((up - down) / 2e-5, abs=1e-5)


def test_thirty_neighbours_are_close_to_all():
    """Within 2 of the log evidence of 400 data, of a smooth law in strong noise; two neighbours are not."""
    data, family, theta, prior_variance = example(OPEN, "isotropic", 1.5, 400, noise=False)
    exact = Dense(data, prior_variance, 1.5)
    root = exact._root(*family.kernel(theta, data.x))[1]
    y = root @ torch.randn(400, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    data = Observations(data.x, y, data.noise, data.design)
    expected = normal_density(data, family, theta, prior_variance)

    def off(m: int) -> float:
        sums = vecchia(data, family, theta, prior_variance, m).whitened(lambda x: family.kernel(theta, x))
        return abs(float(sums.log_evidence(prior_variance)) - expected)

    assert off(30) < 2 < off(2)


def test_some_terms_stand_for_all_without_bias():
    """Sums over 60 of 300 random terms, weighted: their mean over many choices is the sum over all."""
    data, family, theta, prior_variance = example(OPEN, "isotropic", 0.5, 300)

    def sums(chosen: Tensor | None) -> Tensor:
        found = vecchia(data, family, theta, prior_variance, 10, chosen).whitened(lambda x: family.kernel(theta, x))
        return torch.stack([found.squares, found.log_d, found.gram[0, 0], found.cross[0]])

    everything = sums(None)
    some = torch.stack([
        sums(torch.randperm(300, generator=torch.Generator().manual_seed(k))[:60].sort().values) for k in range(200)
    ])  # fmt: skip
    z = (some.mean(0) - everything) / (some.std(0) / math.sqrt(200))
    assert float(z.abs().max()) < 4, z
    # the first 60 of the order have neighbours farther away: no estimate of the whole
    assert float(((sums(torch.arange(60)) - everything) / some.std(0)).abs().max()) > 3


def test_neighbours_are_the_nearest_predecessors():
    z = torch.rand((500, 3), generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    chosen = torch.tensor([0, 3, 17, 200, 499])
    terms = neighbour_terms(z, chosen, 12)
    for row, i in enumerate(chosen.tolist()):
        nearest = set((z[:i] - z[i]).norm(dim=1).argsort()[:12].tolist())
        assert set(terms.index[row][~terms.missing[row]].tolist()) == nearest | {i}


@pytest.mark.parametrize("nu", ORDERS)
def test_slope_of_the_law_is_its_derivative_by_the_squared_distance(nu):
    r = torch.linspace(0.1, 4, 30, dtype=torch.float64)
    square = r.square().requires_grad_()
    (expected,) = torch.autograd.grad(matern_unit(square.sqrt(), nu).sum(), square)
    torch.testing.assert_close(matern_slope(r, nu), expected)


def test_a_length_of_time_is_a_duration_and_one_on_the_sphere_is_in_kilometres():
    axes = (Axis("time", (0.0, 1.0), "days since 2020-01-01"), Axis("lat", (0.0, 1.0), "degrees_north"),
            Axis("lon", (0.0, 1.0), "degrees_east"), Axis("z", (0.0, 1.0), "m"))  # fmt: skip
    geometry = Geometry.of(Grid(axes))
    assert [geometry.length_units(i) for i in range(4)] == ["days", "km", "km", "m"]
    law = StationaryLaw(geometry, 1.5, 1.0, (3.0, 50.0, 50.0, 2.0))
    assert law.to_json()["lengths"]["time"] == {"length": 3.0, "units": "days"}


def test_a_law_of_another_order_is_refused():
    with pytest.raises(InfieldError, match="order"):
        matern_unit(torch.zeros(1), 2.0)
