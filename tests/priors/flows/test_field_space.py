"""A learned prior on other grids of its domain: one velocity, one law, and what is refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from infield import InfieldError
from infield.core.grid import Axis, Grid, PointSet
from infield.priors.base import Standardisation
from infield.priors.covariance.base import Covariance, from_draws, from_matrix
from infield.priors.covariance.modes import Hartley
from infield.priors.flows.field_space import FieldParametrisation
from infield.priors.flows.flow import LearnedFlow
from infield.priors.flows.regrid import _by_wavenumber, source_on
from infield.priors.gaussian.gibbs import gibbs_matrix
from infield.priors.gaussian.kernels import Kernel, Matern, White, law_to_spec
from infield.priors.gaussian.matern import matern_matrix
from infield.priors.gaussian.prior import GaussianPrior
from infield.priors.networks.fno import FNO
from infield.priors.networks.point_network import PointNetwork
from infield.priors.networks.unet import UNet
from infield.priors.storage.checkpoint import load_flow_prior
from infield.priors.storage.flow_entry import ENTRY, to_entry
from infield.priors.training.flow_matching import FlowMatching

SOURCE = Matern(0.5, 0.3)


def line(n: int, start: float = 0.0, length: float = 1.0, periodic: bool = False, units: str = "m") -> Grid:
    """n points i / n of an interval."""
    return Grid((Axis("x", tuple(start + length * i / n for i in range(n)), units, periodic),))


def square(n: int) -> Grid:
    return Grid.regular((n, n), units="m", periodic=True)


def smooth_covariance(source: Covariance, grid: Grid, rank: int = 12) -> Covariance:
    """What training leaves of smooth data, in the source's modes."""
    law = Matern(2.5, 0.4)
    if isinstance(source.modes, Hartley):
        return law.covariance_in(source.modes, grid)
    return from_matrix(source.modes, law._matrix(grid), grid.shape).truncated(rank)


def prior_on(grid: Grid, network: nn.Module | None = None, law: Kernel = SOURCE, skip="scalar") -> LearnedFlow:
    """Stands for a trained prior: a network whose head is not zero."""
    torch.manual_seed(0)
    network = network or FNO(1, grid.ndim, 6, 12, 2, padding=0.25, gates=True)
    nn.init.normal_(network.head.weight, std=0.3)
    source = source_on(law, grid, 1)
    return LearnedFlow(
        name="test",
        network=network.eval(),
        source=source,
        covariance=smooth_covariance(source, grid),
        mean=torch.zeros(source.event_shape).double(),
        standardisation=Standardisation.identity(source.event_shape),
        skip=skip,
        grid_description=grid.to_json(),
        units="K",
        channels=("c0",),
        provenance={"kind": "flow", "source": law_to_spec(law)},
    )


def smooth_field(grid: Grid) -> Tensor:
    s = grid.points()
    return (2 * (3 * s[:, 0]).sin() + (5 * s.sum(1)).cos()).reshape(1, 1, *grid.shape)


def drift(prior: LearnedFlow, fine: LearnedFlow, coarse_grid: Grid, fine_grid: Grid, t: float = 0.6) -> float:
    """Relative difference of the two velocities of one smooth field on the points that the grids share."""
    stride = fine_grid.shape[0] // coarse_grid.shape[0]
    coarse = prior.velocity(smooth_field(coarse_grid), t)
    shared = fine.velocity(smooth_field(fine_grid), t)[(..., *[slice(None, None, stride)] * coarse_grid.ndim)]
    return float((shared - coarse).norm() / coarse.norm())


# one velocity


@pytest.mark.parametrize("grids", [(line(64), line(256)), (line(64), line(512))])
def test_one_velocity_on_nested_grids(grids):
    coarse, fine = grids
    prior = prior_on(coarse)
    assert drift(prior, prior.on(fine), *grids) < 0.02
    unplaced = replace(prior.on(fine), network=prior.network.placed(((0.0, 1 / 64),)))  # as if all points were further
    assert drift(prior, unplaced, *grids) > 0.1


def test_one_velocity_on_a_periodic_square():
    network = FNO(1, 2, 5, 8, 2, "circle")
    prior = prior_on(square(24), network)
    assert drift(prior, prior.on(square(48)), square(24), square(48)) < 0.01


def test_grids_that_reach_both_ends_are_one_domain():
    """0 to 1 with both ends: the points are no whole-number refinement, and keep their places all the same."""
    coarse, fine = Grid.regular((65,), units="m"), Grid.regular((193,), units="m")
    prior = prior_on(coarse)
    v, w = prior.velocity(smooth_field(coarse), 0.5), prior.on(fine).velocity(smooth_field(fine), 0.5)
    assert (w[..., ::3] - v).norm() < 0.03 * v.norm()


def test_the_way_there_and_back_is_the_prior_itself():
    prior = prior_on(line(32))
    assert prior.on(line(32)) is prior
    again = prior.on(line(128)).on(line(32))
    x = smooth_field(line(32))
    torch.testing.assert_close(again.velocity(x, 0.3), prior.velocity(x, 0.3), rtol=1e-5, atol=1e-5)


# one law


@pytest.mark.parametrize("periodic", [False, True])
def test_source_and_covariance_are_one_law_on_shared_points(periodic):
    coarse, fine = line(48, periodic=periodic), line(192, periodic=periodic)
    network = FNO(1, 1, 6, 12, 2, "circle") if periodic else None
    prior = prior_on(coarse, network)
    there = prior.on(fine)

    def values(C: Covariance, stride: int) -> Tensor:
        n = C.event_shape[-1]
        return C.apply(torch.eye(n).double()[:, None])[::stride, 0, ::stride]

    assert (values(there.source, 4) - values(prior.source, 1)).abs().max() < 1e-8
    assert (values(there.covariance, 4) - values(prior.covariance, 1)).abs().max() < 2e-3
    naive = Covariance(
        there.source.modes, *(f.repeat_interleave(4, -1) for f in (prior.covariance.diagonal, prior.covariance.factors))
    )
    assert (values(naive, 4) - values(prior.covariance, 1)).abs().max() > 0.1


def test_a_covariance_estimated_from_draws_stays_near_the_law_between_the_points():
    coarse, fine = line(64), line(256)
    lengths = lambda grid: 0.05 + 0.25 * grid.points()[:, 0]  # noqa: E731
    law = {grid: gibbs_matrix(grid.points(), lengths(grid)) for grid in (coarse, fine)}
    root = torch.linalg.cholesky(law[coarse] + 1e-9 * torch.eye(64))
    draws = torch.randn((20000, 1, 64), generator=torch.Generator().manual_seed(0)).double() @ root.mT
    prior = prior_on(coarse)
    prior = replace(prior, covariance=from_draws(prior.source.modes, draws, rank=32))
    there = prior.on(fine).covariance.apply(torch.eye(256).double()[:, None])[:, 0]
    assert (there - law[fine]).abs().max() < 0.06


def test_the_law_of_draws_on_shared_points_does_not_move():
    """Paths from one source, on a grid and on one of four times as many points; the negative control is a network
    that is tied to its grid."""
    coarse, fine = line(64), line(256)
    prior = prior_on(coarse)

    def ends(flow: LearnedFlow, x: Tensor) -> Tensor:
        for k in range(10):
            x = x + 0.1 * flow.velocity(x, k / 10)
        return x

    def shift(prior: LearnedFlow, there: LearnedFlow) -> float:
        x_0 = there.source.sample(16, torch.Generator().manual_seed(0))
        paths = ends(prior, x_0[..., ::4])
        return float((ends(there, x_0)[..., ::4] - paths).norm() / paths.norm())

    assert shift(prior, prior.on(fine)) < 0.05
    tied = prior_on(coarse, UNet(1, 1, (8, 8), periodic=False))
    there = replace(prior.on(fine), network=tied.network)
    assert shift(tied, there) > 0.2


# other points


def test_a_point_network_is_bound_to_the_new_points():
    network = PointNetwork(1, 1, latents=16, width=16, heads=4, blocks=1)
    grid = line(24)
    prior = prior_on(grid, network.on(grid.points()))
    chosen = torch.tensor([3, 9, 10, 20])
    points = PointSet(tuple((float(x),) for x in grid.points()[chosen, 0]), units="m")
    there = prior.on(points)
    assert there.velocity(torch.randn(2, 1, 4).double(), 0.4).shape == (2, 1, 4)
    K, k = (C.apply(torch.eye(C.event_shape[-1]).double()[:, None])[:, 0] for C in (prior.covariance, there.covariance))
    assert (K[chosen][:, chosen] - k).abs().max() < 0.02  # factors are exact there; the remainder is not
    back = there.on(PointSet(tuple((float(x),) for x in (0.2, 0.5)), units="m"))
    assert back.covariance.event_shape == (1, 2)


def test_fields_of_two_axes_are_interpolated_to_points():
    network = PointNetwork(1, 2, latents=16, width=16, heads=4, blocks=1)
    axis = tuple(i / 20 for i in range(21))
    grid = Grid((Axis("y", axis, "m"), Axis("x", axis, "m")))
    prior = replace(prior_on(grid, network.on(grid.points()), Matern(0.5, 0.3)), mean=smooth_field(grid)[0])
    points = PointSet(((0.31, 0.42), (0.87, 0.11), (0.5, 0.5)), names=("y", "x"), units="m")
    there = prior.on(points)
    torch.testing.assert_close(there.mean, smooth_field(points)[0], rtol=0, atol=2e-4)


def test_a_prior_with_options_comes_back_from_its_file(tmp_path):
    prior = prior_on(line(16))
    torch.save({ENTRY: to_entry(prior)}, tmp_path / "p.ckpt")
    again = load_flow_prior(tmp_path / "p.ckpt").on(line(64))
    x = smooth_field(line(64))
    assert torch.equal(again.velocity(x, 0.7), prior.on(line(64)).velocity(x, 0.7))


# what is refused


@pytest.mark.parametrize(
    ("prior", "site", "words"),
    [
        (lambda: prior_on(line(16), skip="gaussian"), line(32), "`skip: gaussian`"),
        (lambda: prior_on(line(16), law=White()), line(32), "found a source of white noise"),
        (lambda: replace(prior_on(line(16)), provenance={}), line(32), "found a source that is not stored"),
        (lambda: prior_on(line(16), UNet(1, 1, (8, 8))), line(32), "UNet, which is tied to the grid"),
        (lambda: prior_on(line(16)), line(32, units="km"), "found km, expected m"),
        (lambda: prior_on(line(16)), square(8), "found y, x, expected x"),
        (lambda: prior_on(line(16)), line(32, start=0.5), "found 0.5 to 1.5 m, expected 0 to 1"),
        (lambda: prior_on(line(16)), line(32, length=0.5), "found 0 to 0.5 m, expected 0 to 1"),
        (lambda: prior_on(line(16)), PointSet(((0.2,), (0.4,)), units="m"), "FNO, which takes uniform grids"),
        (
            lambda: prior_on(line(16)),
            PointSet(((0.2,), (1.4,)), units="m"),
            "found 0.2 to 1.4 m, expected 0 to 1",
        ),
        (
            lambda: prior_on(line(16)),
            Grid((Axis("x", (0.0, 0.1, 0.5, 0.9), "m"),)),
            "FNO, which takes uniform grids",
        ),
    ],
)
def test_what_is_no_place_for_a_prior_is_refused_in_one_line(prior, site, words):
    with pytest.raises(InfieldError, match=words) as error:
        prior().on(site)
    assert "\n" not in str(error.value)


# the parametrisation, and the Gibbs law


def test_the_loss_of_a_network_that_returns_zero_is_one():
    grid = line(64)
    parametrisation = FieldParametrisation(source_on(Matern(0.5, 0.1, variance=2.0), grid, 1))
    g = torch.Generator().manual_seed(0)
    root = torch.linalg.cholesky(matern_matrix(grid.points(), nu=1.5, length=0.3, variance=1.0))
    x_1 = torch.randn((4000, 1, 64), generator=g).double() @ root.mT
    white, t = torch.randn((4000, 1, 64), generator=g).double(), torch.rand(4000, generator=g).double()
    zero = lambda x, t: torch.zeros_like(x)  # noqa: E731
    losses = parametrisation.field_loss(zero, x_1, white, t)
    for part in (t < 0.3, (t > 0.3) & (t < 0.7), t > 0.7):  # at every time
        assert float(losses[part].mean()) == pytest.approx(1, abs=0.05)
    unscaled = FieldParametrisation(
        Covariance.diagonal_in(parametrisation.source.modes, parametrisation.source.diagonal / 2)
    )
    assert abs(float(unscaled.field_loss(zero, x_1 * 3, white, t)[t > 0.7].mean()) - 1) > 0.2


@pytest.mark.parametrize("emphasis", [0.0, 0.5, 1.0])
def test_emphasis_weighs_small_scales_and_leaves_the_minimiser(emphasis):
    """An error in one mode counts by the power of its variance under the source; the true velocity loses least."""
    grid = line(64)
    source = source_on(Matern(0.5, 0.1), grid, 1)
    parametrisation = FieldParametrisation(source, emphasis)
    g = torch.Generator().manual_seed(0)
    white, t = torch.randn((3000, 1, 64), generator=g).double(), torch.full((3000,), 0.6).double()
    x_1 = source.sample(3000, g)
    prior = GaussianPrior(
        name="law",
        source=source,
        covariance=source,
        mean=torch.zeros((1, 64), dtype=torch.float64),
        standardisation=Standardisation.identity((1, 64)),
        provenance={},
    )
    gain, scale_in, scale_out = parametrisation.coefficients(torch.tensor(0.6, dtype=torch.float64))

    def network(error):
        def F(z, t):
            x = z.double() / scale_in
            return (prior.velocity(x, 0.6) - gain * x) / scale_out + error

        return F

    best = float(parametrisation.field_loss(network(0.0), x_1, white, t).mean())
    c, extra = source.diagonal.flatten(), []
    for k in (int(c.argmax()), int(c.argmin())):
        unit = torch.zeros((1, 1, 64), dtype=torch.float64)
        unit[..., k] = 8.0
        error = source.modes.synthesise(unit)
        extra.append(float(parametrisation.field_loss(network(error), x_1, white, t).mean()) - best)
        assert extra[-1] == pytest.approx(float((c.mean() / c[k]) ** emphasis), rel=0.3)
    assert extra[1] / extra[0] == pytest.approx(float(c.max() / c.min()) ** emphasis, rel=0.4)


def test_emphasis_where_it_means_nothing_is_refused():
    for settings in ({"emphasis": 2.0, "skip": "scalar"}, {"emphasis": 0.5, "skip": "gaussian"}):
        with pytest.raises(InfieldError, match="found emphasis"):
            FlowMatching(FNO(1), **settings)


def test_the_gibbs_law():
    x = torch.linspace(0, 1, 40, dtype=torch.float64)[:, None]
    constant = gibbs_matrix(x, torch.full((40,), 0.2), variance=3.0)
    r = (x - x.mT).abs()
    torch.testing.assert_close(constant, 3 * torch.exp(-0.5 * (r / 0.2) ** 2), rtol=1e-6, atol=1e-12)
    K = gibbs_matrix(x, 0.05 + 0.25 * x[:, 0])
    assert torch.linalg.eigvalsh(K).min() > -1e-9 and np.allclose(K.diagonal(), 1)
    assert K[0, 4] < 0.3 < 0.8 < K[-1, -5]  # rough on the left, smooth on the right
    l, d = 0.05 + 0.25 * float(x[3]), 0.05 + 0.25 * float(x[30])
    by_hand = (2 * l * d / (l * l + d * d)) ** 0.5 * np.exp(-(float(x[3] - x[30]) ** 2) / (l * l + d * d))
    assert float(K[3, 30]) == pytest.approx(by_hand, rel=1e-12)


@pytest.mark.parametrize(("old", "new"), [((8, 9), (16, 9)), ((8, 9), (12, 15)), ((16, 8), (8, 8)), ((9, 9), (9, 10))])
def test_shares_go_by_wavenumber_and_those_of_finer_waves_are_the_mean_of_the_finest(old, new):
    share = torch.rand((2, *old), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = _by_wavenumber(share, share, torch.empty((2, *new)))
    waves = [[round(float(k)) for k in np.fft.fftfreq(n, 1 / n)] for n in old]
    of = {k: share[:, i, j] for i, k0 in enumerate(waves[0]) for j, k1 in enumerate(waves[1]) for k in [(k0, k1)]}
    finest = [value for k, value in of.items() if any(abs(a) >= 3 * n // 8 for a, n in zip(k, old, strict=True))]
    tail = torch.stack(finest).mean(0)
    for i, k0 in enumerate(np.fft.fftfreq(new[0], 1 / new[0])):
        for j, k1 in enumerate(np.fft.fftfreq(new[1], 1 / new[1])):
            k = (round(float(k0)), round(float(k1)))
            alone = all(2 * abs(a) < n for a, n in zip(k, old, strict=True))  # the Nyquist frequency has no sign
            torch.testing.assert_close(found[:, i, j], of[k] if alone else tail)
