"""Laws on a torus seen through a window: the same law on the domain as dense algebra gives, on every grid."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from infield import InfieldError
from infield.core.grid import Axis, Grid, PointSet
from infield.priors.base import FlowPrior, sample
from infield.priors.covariance.modes import Hartley
from infield.priors.gaussian import circulant_embedding as circulant
from infield.priors.gaussian import kernels as source
from infield.priors.gaussian.circulant_embedding import half_step, torus_spectrum
from infield.priors.gaussian.kernels import Matern, White
from infield.priors.gaussian.matern import matern_matrix, matern_mixture
from infield.priors.gaussian.prior import GaussianPrior, gaussian_prior, shared_torus
from infield.priors.storage.from_yaml import prior_from_description
from infield.priors.torus_window import Window

THRESHOLD = 4.5


def rng(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def grid_of(shape: tuple[int, ...], periodic: tuple[bool, ...] = (), lengths: tuple[float, ...] = ()) -> Grid:
    """The unit cube or another box, some of its axes closed."""
    periodic, lengths = periodic or (False,) * len(shape), lengths or (1.0,) * len(shape)
    axes = []
    for name, n, closes, length in zip("zyx"[-len(shape) :], shape, periodic, lengths, strict=True):
        step = length / (n if closes else n - 1)
        axes.append(Axis(name, tuple(step * i for i in range(n)), periodic=closes))
    return Grid(tuple(axes))


def dense(law: Matern, grid: Grid) -> Tensor:
    periods = tuple(a.spacing * a.size if a.periodic else None for a in grid.axes)
    return matern_matrix(grid.points(), nu=law.nu, length=law.length, variance=law.variance, periods=periods)


def on_domain(law: Matern, grid: Grid, torus: tuple[int, ...] | None = None) -> Tensor:
    """Covariance of the values on the domain under the law on the torus, shape `(points, points)`."""
    embedding = law.embed(grid, torus)
    modes, window = Hartley(grid.ndim), embedding.window
    unit = torch.eye(grid.size, dtype=torch.float64).reshape(grid.size, *grid.shape)
    through = modes.synthesise(embedding.spectrum * modes.analyse(window.pad(unit)))
    return window.crop(through).reshape(grid.size, grid.size)


GRIDS = {
    "1-D": grid_of((40,)),
    "2-D": grid_of((9, 14), lengths=(0.7, 1.0)),
    "2-D, one axis closed": grid_of((8, 11), (True, False)),
    "2-D, all closed": grid_of((3, 4), (True, True)),
    "3-D": grid_of((3, 4, 5)),
    "3-D, one axis closed": grid_of((3, 4, 5), (False, True, False)),
    "one row": grid_of((20,)).axes and Grid((Axis("y", (0.0,)), *grid_of((20,)).axes)),
}
every_grid = pytest.mark.parametrize("grid", GRIDS.values(), ids=GRIDS)


@every_grid
@pytest.mark.parametrize("nu", [0.5, 1.3, 2.5])
@pytest.mark.parametrize("length", [0.02, 0.3, 0.8])
def test_the_law_on_the_domain_is_the_law(grid, nu, length):
    """To 1e-10, from lengths far below the domain's to its own size. The wrapped law is the negative control."""
    law = Matern(nu, length, 2.0)
    K = dense(law, grid)
    assert float((on_domain(law, grid) - K).abs().max()) < 1e-10 * float(K.max())  # images add to the variance
    assert law.embed(grid).clipped <= circulant.NEGATIVE_RTOL
    if length > 0.1 and not all(axis.periodic for axis in grid.axes):
        wrapped = on_domain(law, Grid(tuple(Axis(a.name, a.coordinates, periodic=True) for a in grid.axes)))
        assert float((wrapped - K).abs().max()) > 0.1


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_the_law_on_shared_points_is_the_same_on_nested_grids(ndim):
    law = Matern(1.5, 0.4)
    periodic = (True, False, False)[:ndim] if ndim > 1 else (False,)
    sizes = [(4 if closes else 5, 8 if closes else 9) for closes in periodic]
    coarse, fine = (grid_of(tuple(pair[i] for pair in sizes), periodic) for i in (0, 1))
    shared = torch.zeros(fine.shape, dtype=torch.bool)
    shared[tuple(slice(None, None, 2) for _ in fine.shape)] = True
    keep = shared.flatten()
    torch.testing.assert_close(on_domain(law, fine)[keep][:, keep], on_domain(law, coarse), rtol=0, atol=1e-10)


def test_a_torus_that_is_given_serves_too_and_short_lengths_need_not_double_the_domain():
    grid, law = grid_of((12, 10)), Matern(1.5, 0.05)
    assert math.prod(law.embed(grid).window.torus) < 3.5 * grid.size
    torus = Matern(1.5, 0.5).embed(grid).window.torus
    assert math.prod(torus) > 4 * grid.size
    for either in (law, Matern(1.5, 0.5), Matern(0.5, 0.2)):
        assert float((on_domain(either, grid, torus) - dense(either, grid)).abs().max()) < 1e-10


def test_cutting_at_half_the_period_has_negative_modes_where_the_smooth_cut_has_none():
    """The plain embedding is not positive on this torus; clipping it as it is would be another law."""
    grid, law = grid_of((24, 24)), Matern(1.5, 0.5)
    embedding = law.embed(grid)
    mixture = matern_mixture(nu=1.5, length=0.5, variance=1.0, finest=min(grid.spacing))
    plain = torus_spectrum(mixture, embedding.window.torus, grid.spacing, grid.shape, (False, False), half_step)
    assert float(plain.clamp_max(0).sum().abs() / plain.sum()) > 1e-6
    assert embedding.clipped <= circulant.NEGATIVE_RTOL
    twice = torus_spectrum(mixture, (46, 46), grid.spacing, grid.shape, (False, False), half_step)
    share = float(twice.clamp_max(0).sum().abs() / twice.sum())
    modes, window = Hartley(2), Window(grid.shape, (46, 46))
    unit = torch.eye(grid.size, dtype=torch.float64).reshape(grid.size, *grid.shape)
    clipped = window.crop(modes.synthesise(twice.clamp_min(0) * modes.analyse(window.pad(unit))))
    error = float((clipped.reshape(grid.size, grid.size) - dense(law, grid)).abs().max())
    assert 1e-4 < error <= share * 1.0001  # what `Embedding.clipped` promises


def test_a_law_that_no_torus_holds_is_refused_or_clipped_as_far_as_is_said(monkeypatch):
    grid, law = grid_of((16, 16)), Matern(2.5, 1.0)
    monkeypatch.setattr(circulant, "LARGEST_TORUS", 32 * 32)
    with pytest.raises(InfieldError, match="in negative modes, expected at most 1e-06 on a torus of at most 1024"):
        law.embed(grid)
    monkeypatch.setattr(circulant, "TOLERANCE", 0.2)
    embedding = law.embed(grid)
    assert 1e-3 < embedding.clipped < 0.2 and (embedding.spectrum >= 0).all()
    assert float((on_domain(law, grid) - dense(law, grid)).abs().max()) <= embedding.clipped * 1.0001
    monkeypatch.setattr(circulant, "LARGEST_TORUS", 100)
    with pytest.raises(InfieldError, match="points, expected"):
        law.embed(grid)


def test_crop_and_pad_are_each_others_transpose():
    window = Window((3, 4), (5, 7))
    x, y = torch.randn(2, 1, 5, 7, generator=rng(0)), torch.randn(2, 1, 3, 4, generator=rng(1))
    assert float((window.crop(x) * y).sum()) == pytest.approx(float((x * window.pad(y)).sum()))
    assert torch.equal(window.crop(window.pad(y)), y)


# as priors


@pytest.fixture
def embed_all(monkeypatch):
    """Small grids are embedded, too."""
    monkeypatch.setattr(source, "EMBED_ABOVE", 20)


def test_a_prior_on_a_large_grid_that_does_not_close_lives_on_a_torus(embed_all):
    grid = grid_of((9, 8))
    prior = gaussian_prior(Matern(1.5, 0.3, 2.0), grid, channels=2).in_units(5.0, 3.0)
    assert isinstance(prior, FlowPrior) and prior.provenance["clipped"] <= circulant.NEGATIVE_RTOL
    torus = tuple(prior.provenance["torus"])
    assert prior.covariance.event_shape == (2, *torus) and all(m > n for m, n in zip(torus, grid.shape, strict=True))
    assert torch.equal(prior.source.diagonal, torch.ones_like(prior.source.diagonal))
    with pytest.raises(InfieldError, match="window"):
        prior.standardisation.from_units(torch.zeros(1, 2, 9, 8))
    periodic = gaussian_prior(Matern(), Grid.regular((9, 8), periodic=True))
    assert periodic.mean.shape == (1, 9, 8) and "torus" not in periodic.provenance


def law_z(x: Tensor, C: Tensor) -> float:
    z = torch.linalg.solve_triangular(torch.linalg.cholesky(C), x.mT, upper=False).mT
    eye = torch.eye(z.shape[1], dtype=torch.float64)
    return float(((z.mT @ z / len(z) - eye) * math.sqrt(len(z)) / (1 + eye).sqrt()).abs().max())


def test_draws_of_a_prior_come_out_on_the_domain_with_its_law(embed_all):
    """Of the prior through its flow, and of a source through the window; the wrapped law is told apart."""
    grid, law = grid_of((5, 6)), Matern(0.5, 0.4)
    prior = gaussian_prior(law, grid, source=Matern(0.5, 0.3, 1.5)).in_units(2.0, 3.0)
    x = sample(prior, 4000, rng(0), steps=40)
    assert x.shape == (4000, 1, 5, 6)
    assert law_z((x.flatten(1) - 2) / 3, dense(law, grid)) < THRESHOLD
    assert float((x.mean(0) - 2).abs().max()) / 3 * math.sqrt(4000) < THRESHOLD
    first = prior.standardisation.to_units(prior.source.sample(4000, rng(1)))
    assert law_z((first.flatten(1) - 2) / 3, dense(Matern(0.5, 0.3, 1.5), grid)) < THRESHOLD
    wrapped = gaussian_prior(Matern(0.5, 0.4, wrap=True), grid)
    assert law_z(sample(wrapped, 4000, rng(0), steps=40).flatten(1), dense(law, grid)) > 2 * THRESHOLD


def test_components_of_a_mixture_share_one_torus(embed_all):
    grid = grid_of((7, 6))
    laws = [{"law": {"law": "matern", "length": length}} for length in (0.05, 0.6)]
    prior = prior_from_description(
        {"prior": "mixture", "components": laws, "source": {"law": "matern", "nu": 0.5, "length": 0.02}}, grid, 1
    )
    for part, length in zip(prior.components, (0.05, 0.6), strict=True):
        torus = part.provenance["torus"]
        assert torus == prior.components[0].provenance["torus"]
        K = on_domain(Matern(1.5, length), grid, tuple(torus))
        assert float((K - dense(Matern(1.5, length), grid)).abs().max()) < 1e-10
    assert sample(prior, 3, rng(0)).shape == (3, 1, 7, 6)
    assert shared_torus([White(), White()], grid) is None
    with pytest.raises(InfieldError, match="give all kernels of a prior the same `wrap`"):
        gaussian_prior(Matern(), grid, source=Matern(wrap=True))


def test_small_grids_points_and_uneven_axes_stay_as_they_are():
    uneven = Grid((Axis("x", tuple(float(i * i) for i in range(2000))),))
    points = PointSet(tuple((0.1 * i,) for i in range(2000)))
    for grid in (grid_of((8, 8)), uneven, points):
        assert not Matern().prefers_embedding(grid)
    assert Matern().prefers_embedding(grid_of((64, 64)))
    assert not Matern(wrap=True).prefers_embedding(grid_of((64, 64))) and not Matern(rank=3).prefers_embedding(
        grid_of((64, 64))
    )


def test_a_prior_of_many_points_is_made_of_arrays_as_large_as_its_torus():
    """256 x 256 points: no array is larger than the torus, and the torus is less than seven times the domain."""
    prior = gaussian_prior(Matern(1.5, 0.3), grid_of((256, 256)))
    assert isinstance(prior, GaussianPrior) and prior.covariance.diagonal.numel() < 7 * 256**2
    assert prior.covariance.factors.numel() == 0
    assert prior.standardisation.to_units(prior.covariance.sample(1, rng(0))).shape == (1, 1, 256, 256)
