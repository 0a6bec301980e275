"""Draws by conditioning against the dense posterior: the covariance that they imply, limits, negative controls."""

import numpy as np
import pytest
import torch
from examples.kriging_draws import errors

from infield.core.grid import Axis, Grid, PointSet
from infield.posterior.kriging import embedding
from infield.posterior.kriging.conditioning import Conditioned
from infield.posterior.kriging.embedding import Embedding
from infield.posterior.kriging.law import Geometry, StationaryLaw
from infield.posterior.kriging.observations import Observations


def axis(name, n, low, high, units="m", periodic=False):
    step = (high - low) / n
    return Axis(name, tuple(low + step * (i + 0.5) for i in range(n)), units, periodic)


PLANE = Grid((axis("y", 9, 0, 1), axis("x", 7, 0, 0.8)))
RING = Grid((axis("y", 9, 0, 1, periodic=True), axis("x", 7, 0, 0.8)))
UNEVEN = Grid((axis("y", 8, 0, 1), Axis("x", (0.0, 0.05, 0.2, 0.5, 0.9), "m")))
EARTH = Grid((axis("lat", 5, 45, 55, "degrees_north"), axis("lon", 6, 5, 17, "degrees_east")))
GLOBE = Grid((axis("lat", 6, -90, 90, "degrees_north"), axis("lon", 12, 0, 360, "degrees_east")))
SCATTERED = PointSet(tuple(map(tuple, np.random.default_rng(1).random((40, 2)))), ("y", "x"), "m")
SERIES = Grid((axis("t", 30, 0, 60, "s"),))
IN_TIME = Grid(
    (axis("t", 3, 0, 6, "d"), axis("lat", 4, 45, 55, "degrees_north"), axis("lon", 4, 5, 13, "degrees_east"))
)

CASES = {
    "plane": (PLANE, {"lengths": (0.2, 0.2)}),
    "plane, rough and long": (PLANE, {"nu": 0.5, "lengths": (2.0, 2.0)}),
    "plane, smooth": (PLANE, {"nu": 2.5, "lengths": (0.4, 0.4)}),
    "turned": (PLANE, {"lengths": (0.5, 0.1), "azimuth": 0.5}),
    "one periodic axis": (RING, {"lengths": (0.3, 0.3)}),
    "one uneven axis": (UNEVEN, {"lengths": (0.3, 0.3)}),
    "a part of the sphere": (EARTH, {"lengths": (400.0, 400.0)}),
    "rough and long on the sphere": (EARTH, {"nu": 0.5, "lengths": (2500.0, 2500.0)}),
    "the sphere": (GLOBE, {"lengths": (3000.0, 3000.0)}),
    "scattered": (SCATTERED, {"lengths": (0.2, 0.2)}),
    "series": (SERIES, {"lengths": (8.0,)}),
    "time and sphere": (IN_TIME, {"lengths": (4.0, 600.0, 600.0)}),
}


def law_on(grid, nu=1.5, variance=2.0, **more):
    return StationaryLaw(Geometry.of(grid), nu, variance, **more)


def data_on(grid, N=20, noise=0.05):
    """Data between the points of a grid."""
    points, random = grid.points(), np.random.default_rng(0)
    low, high = points.amin(0).numpy(), points.amax(0).numpy()
    ones = torch.ones(N, dtype=torch.float64)
    x = torch.from_numpy(low + random.random((N, grid.ndim)) * (high - low))
    return Observations(x, 0 * ones, noise * ones, ones[:, None])


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_draws_without_data_have_the_law(case):
    grid, of_law = case
    law = law_on(grid, **of_law)
    found = Embedding.of(law, grid)
    root = found.draw(torch.eye(found.numbers, dtype=torch.float64)).numpy()
    at = law.embed(grid.points())
    exact = np.asarray(law.between(at, at))
    assert np.abs(root.T @ root - exact).max() < 0.008 * law.variance
    assert np.abs((root**2).sum(0) / law.variance - 1).max() < 5e-3
    near = exact > 0.5 * law.variance  # between neighbours differences count
    apart = 2 * (law.variance - exact[near])
    own = np.add.outer((root**2).sum(0), (root**2).sum(0))[near] - 2 * (root.T @ root)[near]
    assert np.abs(own - apart).max() < 5e-3 * law.variance


@pytest.mark.parametrize("noise", [0.0, 0.05])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_draws_are_of_the_posterior(case, noise):
    grid, of_law = case
    law, data, targets = law_on(grid, **of_law), data_on(grid, noise=noise), grid.points().double()
    simulator = Conditioned(law, data, targets, Embedding.of(law, grid))
    std, correlation, mean = errors(simulator, law, data, targets)
    assert std < 0.02 and correlation < 0.02 and mean < 1e-3


def test_draws_near_many_data():
    """More data than grid points, some of them at one place."""
    law, data = law_on(PLANE, lengths=(0.3, 0.3)), data_on(PLANE, N=150, noise=0.02)
    data.x[:5] = data.x[5:10]
    simulator = Conditioned(law, data, PLANE.points(), Embedding.of(law, PLANE))
    assert max(errors(simulator, law, data, PLANE.points())) < 0.02


def test_at_exact_data_on_the_grid_the_draws_are_the_data():
    law, targets = law_on(PLANE, lengths=(0.3, 0.3)), PLANE.points()
    data = data_on(PLANE, N=10, noise=0.0)
    data = Observations(targets[::6][:10], data.y, data.noise, data.design)
    simulator = Conditioned(law, data, targets, Embedding.of(law, PLANE))
    random = torch.Generator().manual_seed(0)
    white = torch.randn(3, simulator.numbers, generator=random, dtype=torch.float64)
    residual = torch.randn(3, 10, generator=random, dtype=torch.float64)
    drawn = simulator.draw(residual, white)
    torch.testing.assert_close(drawn[:, ::6][:, :10], residual, rtol=0, atol=1e-3)


def test_a_torus_without_room_fails(monkeypatch):
    """Negative control: the window's edges are neighbours on the torus."""
    law = law_on(PLANE, lengths=(0.5, 0.5))
    monkeypatch.setattr(embedding, "IMAGES", (0.95,))
    monkeypatch.setattr(embedding, "ERROR", 10.0)
    found = Embedding.of(law, PLANE)
    if found is not None:
        root = found.draw(torch.eye(found.numbers, dtype=torch.float64)).numpy()
        at = law.embed(PLANE.points())
        assert np.abs(root.T @ root - np.asarray(law.between(at, at))).max() > 0.05


def test_no_torus_where_it_would_be_too_large(monkeypatch):
    law = law_on(PLANE, lengths=(0.5, 0.5))
    monkeypatch.setattr(embedding, "MOST_CELLS", 100)
    assert Embedding.of(law, PLANE) is None
    turned = law_on(UNEVEN, lengths=(0.5, 0.1), azimuth=0.3)
    assert Embedding.of(turned, UNEVEN) is None


def test_the_order_of_data_does_not_matter():
    law, data, targets = law_on(PLANE, lengths=(0.2, 0.2)), data_on(PLANE), PLANE.points()
    random = torch.Generator().manual_seed(0)
    found = Embedding.of(law, PLANE)
    one = Conditioned(law, data, targets, found)
    white = torch.randn(2, one.numbers, generator=random, dtype=torch.float64)
    residual = torch.randn(2, len(data), generator=random, dtype=torch.float64)
    i = torch.randperm(len(data), generator=random)
    other = Conditioned(law, data.at(i), targets, found, Conditioned.planned(law, data, targets))
    torch.testing.assert_close(other.draw(residual[:, i], white), one.draw(residual, white), rtol=1e-9, atol=1e-9)
