"""A network for scattered points: an operator on functions, whatever points they are given on."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor, nn

from infield import InfieldError
from infield.core.grid import Grid, PointSet
from infield.priors.base import Standardisation
from infield.priors.covariance.base import Covariance
from infield.priors.flows.field_space import FieldParametrisation
from infield.priors.flows.flow import LearnedFlow
from infield.priors.gaussian.kernels import Matern
from infield.priors.networks.point_network import Domain, PointNetwork, points_of
from infield.priors.storage.checkpoint import load_flow_prior
from infield.priors.storage.flow_entry import ENTRY, to_entry

SMALL = {"latents": 16, "width": 16, "heads": 4, "blocks": 2}
DOMAINS = [
    {"ndim": 1},
    {"ndim": 2},
    {"ndim": 3, "latents": 27},
    {"ndim": 2, "domain": "torus", "lower": [0.0, -1.0], "upper": [2.0, 1.0]},
    {"ndim": 2, "domain": "sphere"},
    {"ndim": 3, "domain": "sphere"},
]


def network(channels: int = 1, **settings) -> PointNetwork:
    """Stands for a trained network: a head that is not zero, and a way through the queries that weighs as much."""
    torch.manual_seed(0)
    built = PointNetwork(channels, **{**SMALL, **settings}).double()
    nn.init.normal_(built.head.weight, std=0.3)
    nn.init.normal_(built.scatter.out.weight, std=1.0)
    return built


def points_in(settings: dict, n: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    unit = torch.rand((n, settings["ndim"]), generator=generator, dtype=torch.float64)
    if settings.get("domain") == "sphere":
        return unit * torch.tensor([180.0, 360.0]) - torch.tensor([90.0, 0.0]) if settings["ndim"] == 2 else unit - 0.5
    lower, upper = (torch.tensor(settings.get(end, value)) for end, value in (("lower", 0.0), ("upper", 1.0)))
    return lower + (upper - lower) * unit


def times(n: int) -> Tensor:
    return torch.linspace(0.1, 0.9, n, dtype=torch.float64)


@pytest.mark.parametrize("settings", DOMAINS)
def test_is_zero_before_training_and_every_parameter_gets_a_gradient(settings):
    fresh = PointNetwork(2, **{**SMALL, **settings}).on(points_in(settings, 20))
    x = torch.randn(3, 2, 20)
    assert fresh(x, times(3).float()).shape == x.shape and (fresh(x, times(3).float()) == 0).all()
    bound = network(2, **settings).on(points_in(settings, 20))
    (bound(x.double(), times(3)) * x).sum().backward()
    assert [name for name, p in bound.named_parameters() if p.grad is None or not p.grad.abs().max() > 0] == []


@pytest.mark.parametrize("settings", DOMAINS)
def test_order_of_the_points_does_not_matter(settings):
    unbound, points = network(2, **settings), points_in(settings, 40)
    x, order = torch.randn(3, 2, 40, dtype=torch.float64), torch.randperm(40)
    result = unbound.on(points)(x, times(3))
    torch.testing.assert_close(unbound.on(points[order])(x[..., order], times(3)), result[..., order])
    assert (unbound.on(points)(x[..., order], times(3)) - result[..., order]).abs().max() > 0.01  # places do


def test_each_field_of_a_batch_is_on_its_own_and_sees_its_time():
    bound, x = network().on(points_in({"ndim": 1}, 30)), torch.randn(4, 1, 30, dtype=torch.float64)
    together = bound(x, times(4))
    alone = torch.cat([bound(x[i : i + 1], times(4)[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(together, alone)
    assert (bound(x, times(4) + 0.05) - together).abs().max() > 1e-4


def test_the_weights_are_shared_and_a_grid_is_its_points():
    unbound, grid = network(ndim=2), Grid.regular((5, 7))
    bound = unbound.on(grid.points())
    assert [id(p) for p in bound.parameters()] == [id(p) for p in unbound.parameters()]
    x = torch.randn(2, 1, 5, 7, dtype=torch.float64)
    before = bound(x, times(2))
    assert before.shape == x.shape
    torch.testing.assert_close(points_of(grid.to_json()), grid.points())
    scattered = PointSet(tuple(map(tuple, grid.points().tolist())), ("y", "x"))
    torch.testing.assert_close(points_of(scattered.to_json()), grid.points())
    torch.testing.assert_close(unbound.on(scattered.points())(x.flatten(2), times(2)), before.flatten(2))
    with torch.no_grad():
        unbound.head.weight.mul_(2)
    torch.testing.assert_close(bound(x, times(2)) - bound.head.bias, 2 * (before - bound.head.bias))
    other = unbound.on(grid.points()[:10])
    assert other(x.flatten(2)[..., :10], times(2)).shape == (2, 1, 10)
    torch.testing.assert_close(bound(x, times(2)).flatten(2)[0, 0, 0], bound(x, times(2))[0, 0, 0, 0])


@torch.no_grad()
def refinement_error(unbound: PointNetwork, n: int, *, uneven: bool = False, even_shares: bool = False) -> float:
    """Change of the outputs at n points when there are 3 n more, relative to that when the field is zero at these."""
    generator = torch.Generator().manual_seed(1)
    points = torch.rand((n, 2), generator=generator, dtype=torch.float64)
    more = torch.rand((3 * n, 2), generator=generator, dtype=torch.float64)
    points = torch.cat([points, more**3 if uneven else more])
    x = ((6 * points[:, 0]).sin() + (5 * points[:, 0] * points[:, 1]).cos())[None, None]
    t = times(1)
    coarse, fine = unbound.on(points[:n]), unbound.on(points)
    if even_shares:
        coarse.log_shares, fine.log_shares = (torch.zeros_like(b.log_shares) for b in (coarse, fine))
    result = fine(x, t)[..., :n]
    elsewhere = torch.cat([x[..., :n], torch.zeros_like(x[..., n:])], dim=-1)
    return float((result - coarse(x[..., :n], t)).norm() / (result - fine(elsewhere, t)[..., :n]).norm())


def test_more_points_of_a_field_are_the_same_field():
    """Less change the more there are; where they crowd, only the shares of the domain keep it so."""
    unbound = network(ndim=2)
    errors = [refinement_error(unbound, n) for n in (50, 400, 3200)]
    assert errors[0] > 3 * errors[2] and errors[2] < 0.02
    crowded = refinement_error(unbound, 400, uneven=True)
    assert crowded < 0.1 and refinement_error(unbound, 400, uneven=True, even_shares=True) > 1


def test_shares_are_those_of_the_domain():
    line = Domain("box", 1, 0.0, 2.0)
    shares = line.shares(line.places(torch.tensor([[0.2], [1.0], [1.2]])))
    torch.testing.assert_close(shares, torch.tensor([0.3, 0.25, 0.45], dtype=torch.float64), atol=2e-3, rtol=0)
    ring = Domain("torus", 1, 0.0, 2.0)
    shares = ring.shares(ring.places(torch.tensor([[0.2], [1.0], [1.2]])))
    torch.testing.assert_close(shares, torch.tensor([0.45, 0.25, 0.3], dtype=torch.float64), atol=2e-3, rtol=0)
    globe = Domain("sphere", 2, 0.0, 1.0)
    shares = globe.shares(globe.places(torch.tensor([[90.0, 0.0], [0.0, 10.0], [-90.0, 0.0]])))
    cap = (1 - math.sqrt(0.5)) / 2
    assert float(shares.sum()) == pytest.approx(1)
    antipode = globe.places(torch.tensor([[0.0, 10.0], [0.0, 370.0], [0.0, 190.0]]))
    torch.testing.assert_close(antipode[0], antipode[1])
    torch.testing.assert_close(antipode[0], -antipode[2])
    assert float(shares[0]) == pytest.approx(float(shares[2]), abs=2e-3) and float(shares[0]) > cap


def test_a_torus_closes_on_itself_and_a_box_does_not():
    ends = torch.tensor([[0.0], [1.0]], dtype=torch.float64)
    places = [Domain(shape, 1, 0.0, 1.0).places(ends) for shape in ("torus", "box")]
    torch.testing.assert_close(places[0][0], places[0][1])
    assert not torch.allclose(places[1][0], places[1][1])


def a_prior() -> LearnedFlow:
    site = PointSet(tuple(map(tuple, points_in({"ndim": 1}, 15).tolist())))
    source = Matern(0.5, 0.2).covariance(site)
    one = torch.ones(1, 1, dtype=torch.float64)
    return LearnedFlow(
        name="a prior",
        network=network().float().on(site.points()).eval(),
        source=source,
        covariance=Covariance.diagonal_in(source.modes, source.diagonal),
        mean=torch.zeros(source.event_shape, dtype=torch.float64),
        standardisation=Standardisation(one, one),
        skip="scalar",
        grid_description=site.to_json(),
        units="1",
        channels=("field",),
        provenance={"source": {"law": "matern", "nu": 0.5, "length": 0.2, "variance": 1.0, "wrap": False}},
    )


def test_a_prior_on_points_comes_back_from_its_file_and_goes_to_other_points(tmp_path):
    prior, path = a_prior(), tmp_path / "prior.ckpt"
    torch.save({ENTRY: to_entry(prior)}, path)
    again = load_flow_prior(path)
    x = torch.randn(2, 1, 15, dtype=torch.float64)
    assert torch.equal(again.velocity(x, 0.4), prior.velocity(x, 0.4))
    order = torch.randperm(15)
    there = again.on(PointSet(tuple(map(tuple, points_of(prior.grid_description)[order].tolist()))))
    expected = prior.velocity(x, 0.4)[..., order]  # of a network in single precision
    torch.testing.assert_close(there.velocity(x[..., order], 0.4), expected, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def loss_at(points: Tensor, trained: PointNetwork, law: Matern, source: Matern) -> float:
    """The loss of fields on some points; 1 for a network that returns zero."""
    site = PointSet(tuple(map(tuple, points.tolist())))
    generator = torch.Generator().manual_seed(7)
    x = law.covariance(site).sample(500, generator).float()
    parametrisation = FieldParametrisation(source.covariance(site)).to("cpu", torch.float32)
    white, t = torch.randn(x.shape, generator=generator), torch.rand(len(x), generator=generator)
    return float(parametrisation.field_loss(trained.on(points), x, white, t).mean())


def test_what_is_learned_on_some_points_is_known_on_others():
    """A smooth process from a rough source. The negative control forgets where its points are."""
    law, source, points = Matern(2.5, 0.5), Matern(0.5, 0.1), points_in({"ndim": 1}, 40)
    others = points_in({"ndim": 1}, 90, seed=1)
    site = PointSet(tuple(map(tuple, points.tolist())))
    torch.manual_seed(0)
    trained = PointNetwork(1, latents=16, width=32, heads=4, blocks=1)
    bound, generator = trained.on(site.points()), torch.Generator().manual_seed(2)
    parametrisation = FieldParametrisation(source.covariance(site)).to("cpu", torch.float32)
    fields = law.covariance(site).sample(2000, generator).float()
    optimiser = torch.optim.AdamW(bound.parameters(), 3e-3)
    for _ in range(150):
        x = fields[torch.randint(len(fields), (64,), generator=generator)]
        white, t = torch.randn(x.shape, generator=generator), torch.rand(len(x), generator=generator)
        optimiser.zero_grad()
        parametrisation.field_loss(bound, x, white, t).mean().backward()
        optimiser.step()
    here, there = loss_at(points, trained, law, source), loss_at(others, trained, law, source)
    assert here < 0.85 and there < 0.85
    trained.on = lambda points: bound.on(others[torch.randperm(90, generator=generator)])  # type: ignore[method-assign]
    assert loss_at(others, trained, law, source) > 0.92


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: PointNetwork(1, width=30, heads=8), "heads that divide the width"),
        (lambda: PointNetwork(1, 4), "box or torus with 1 to 3"),
        (lambda: PointNetwork(1, 1, "sphere"), "sphere with 2"),
        (lambda: PointNetwork(1, 1, "disc"), "found 'disc'"),
        (lambda: PointNetwork(1, 2, upper=[1.0, -1.0]), "the upper ones larger"),
        (lambda: PointNetwork(1, 2, upper=[1.0, 1.0, 1.0]), "1 or 2 numbers"),
        (lambda: network().on(torch.zeros(3, 2)), r"found shape \(3, 2\)"),
        (lambda: network().on(torch.tensor([[0.5], [1.25]])), r"point 1 of .* \[1.25\], .* from \[0.0\] to \[1.0\]"),
        (lambda: network(ndim=2).on(torch.tensor([[0.5, math.nan]])), r"point 0 of .* \[0.5, nan\]"),
        (
            lambda: network(ndim=2, domain="sphere").on(torch.tensor([[91.0, 0.0]])),
            "of the sphere; leave it out, or give latitudes",
        ),
        (lambda: network()(torch.zeros(1, 1, 5).double(), times(1)), r"expected 0, .* `on\(points\)`"),
    ],
)
def test_what_cannot_work_is_refused_in_one_line(build, words):
    with pytest.raises(InfieldError, match=words) as error:
        build()
    assert "\n" not in str(error.value)
