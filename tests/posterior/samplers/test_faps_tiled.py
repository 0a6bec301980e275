"""FAPS tile by tile: the same as FAPS where a tile is the domain, and nearer to it the wider the halo."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace

import pytest
import torch
from torch import nn

from infield import InfieldError
from infield.core.grid import Grid
from infield.core.randomness import SampleStreams
from infield.datasets.wall_pressure.sensors import WallSensors
from infield.physics.noise.registry import PoissonNoise
from infield.physics.wall_pressure.wall_units import wall_grid
from infield.posterior.inference.tiling import RNG_BLOCK, Tiling, normal_at, normal_of
from infield.posterior.samplers.faps import FAPS
from infield.posterior.samplers.faps_tiled import DATA, DRAW, SOURCE, TiledFAPS, TiledPosterior
from infield.priors.base import Standardisation
from infield.priors.covariance.base import Covariance
from infield.priors.covariance.modes import Hartley
from infield.priors.flows.flow import LearnedFlow
from infield.priors.gaussian.kernels import White
from infield.priors.networks.fno import FNO
from infield.priors.networks.patched import Patched
from infield.priors.networks.unet import UNet
from infield.priors.wall_pressure.synthetic import WallPressure

SHORT = wall_grid(180, 2 * math.pi, math.pi, multiple=16)
GRID = wall_grid(180, 8 * math.pi, 2 * math.pi, multiple=16)
SEED = 5


def prior(strength: float = 0.05, scale: float = 1.5) -> LearnedFlow:
    torch.manual_seed(0)
    unet = UNet(1, 2, (4, 8), 1, True, False)
    nn.init.normal_(unet.head.weight, std=strength)
    spectrum = WallPressure(180).spectrum(SHORT)[None] / scale**2
    spectrum[0, 0, 0] = spectrum[0, 0, 1]  # fields with a mean
    return LearnedFlow(
        name="test",
        network=Patched(unet, (16, 16), (8, 8)).eval().requires_grad_(False),
        source=White().covariance_in(Hartley(2), SHORT),
        covariance=Covariance.diagonal_in(Hartley(2), spectrum),
        mean=torch.zeros(1, *SHORT.shape).double(),
        standardisation=Standardisation(torch.full((1, 1, 1), 0.5).double(), torch.full((1, 1, 1), scale).double()),
        skip="gaussian",
        grid_description=SHORT.to_json(),
        units="1",
        channels=("pressure",),
        provenance={"source": {"law": "white"}},
    )


def sensors(grid: Grid = GRID, positions: bool = False):
    truth = WallPressure(180).draw(grid, SampleStreams(1, [0]).normal)[0]
    if positions:
        places = torch.rand((60, 2), generator=torch.Generator().manual_seed(1)).double()
        lengths = torch.tensor([(axis.size - 1) * axis.spacing for axis in grid.axes]).double()
        return WallSensors.at(grid, (places * lengths).numpy()).measure(truth, 0.2, 2)
    return WallSensors.random(grid, 0.01, 1).measure(truth, 0.2, 2)


def tiled(measurement, tile, halo, levels=3, samples=range(2)) -> torch.Tensor:
    """All levels of all tiles, in memory."""
    posterior = TiledPosterior(TiledFAPS(tile=tile, halo=halo, levels=levels), prior(), measurement, SEED)
    tiling, state = posterior.tiling, None
    for k in range(levels):
        after = torch.full((len(samples), 1, *tiling.shape), math.nan).double()
        for i in tiling.tiles:
            seen = state
            for axis, (region, n) in enumerate(zip(tiling.region(i), tiling.shape, strict=True)):
                if seen is not None:
                    seen = seen.index_select(2 + axis, torch.tensor([j % n for j in region]))
            core = tuple(slice(c.start, c.stop) for c in tiling.core(i))
            after[(..., *core)] = posterior.advance(i, k, samples, seen)
        state = after
    return state


class Placed(SampleStreams):
    """Streams that give FAPS the random numbers of places, in the order in which it asks for them."""

    def script(self, levels: int, modes, shape, data: int) -> Placed:
        self.shape, self.modes, self.data = shape, modes, data
        whats = [(0, SOURCE)]
        for k in range(levels):
            whats += [(k, DRAW), (k, DATA), (k + 1, SOURCE)]
        self.whats = iter(whats)
        return self

    def normal(self, shape):
        k, what = next(self.whats)
        keys = [[SEED, i, k, what] for i in self.indices]
        if what == DATA:
            return torch.stack([normal_of(key, torch.arange(self.data)) for key in keys])[:, None]
        region = [range(n) for n in self.shape]
        return self.modes.analyse(torch.stack([normal_at(key, region, self.shape) for key in keys])[:, None])


def whole(measurement, levels=3) -> torch.Tensor:
    there = prior().on(GRID)
    streams = Placed(SEED, range(2)).script(levels, there.source.modes, GRID.shape, measurement.y.numel())
    return FAPS(levels=levels)(there, measurement, 2, streams).samples


@pytest.mark.parametrize("positions", [False, True])
def test_one_tile_is_faps(positions):
    measurement = sensors(positions=positions)
    expected = whole(measurement)
    found = tiled(measurement, GRID.shape, (0, 0))
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    assert (found - tiled(measurement, GRID.shape, (0, 0), samples=range(1, 3))).abs().max() > 1


def test_the_wider_the_halo_the_nearer_to_faps():
    measurement = sensors()
    expected = whole(measurement)
    halos = ((0, 0), (8, 8), (16, 16), (32, 32))
    error = [float((tiled(measurement, (32, 64), halo) - expected).std() / expected.std()) for halo in halos]
    assert error[0] > 0.2  # negative control: tiles that know nothing of each other
    assert error[1] < error[0] / 2 and error[3] < error[1] and error[3] < 0.03


def test_tiles_show_no_seam():
    """Jumps over the edges of tiles are as large as elsewhere, with a halo."""

    def excess(halo) -> float:
        x = tiled(sensors(), (32, 32), halo, samples=range(6))
        jumps = (x - x.roll(1, -1)).square().mean((0, 1, 2))
        at = torch.arange(len(jumps)) % 32 == 0
        return 10 * math.log10(float(jumps[at].mean() / jumps[~at].mean()))

    assert abs(excess((16, 16))) < 0.5 < 3 < excess((0, 0))


def test_an_axis_that_does_not_close():
    axes = (GRID.axes[0], replace(GRID.axes[1], periodic=False))
    grid = Grid(axes)
    measurement = sensors(grid)
    posterior = TiledPosterior(TiledFAPS(tile=(64, 64), halo=(0, 24), levels=2), prior(), measurement, SEED)
    assert posterior.tiling.shape == (GRID.shape[0], GRID.shape[1] + 24)
    x = tiled(measurement, (64, 64), (0, 24))[..., : GRID.shape[1]]
    assert torch.isfinite(x).all()
    ends, middle = (x[..., 0] - x[..., -1]).square().mean(), (x[..., 100] - x[..., 101]).square().mean()
    closed = tiled(sensors(), (64, 64), (0, 24))
    assert ends > 2 * middle  # the first and the last point are strangers
    assert (closed[..., 0] - closed[..., -1]).square().mean() < 2 * middle  # negative control


def test_random_numbers_belong_to_places():
    shape = (100, 150)
    everywhere = normal_at([1, 2], [range(100), range(150)], shape)
    part = normal_at([1, 2], [range(-10, 20), range(140, 170)], shape)
    rows, columns = torch.arange(-10, 20) % 100, torch.arange(140, 170) % 150
    assert torch.equal(part, everywhere[rows][:, columns])
    assert not torch.equal(normal_at([1, 3], [range(100), range(150)], shape), everywhere)
    assert abs(float(everywhere.mean())) < 0.05 and abs(float(everywhere.std()) - 1) < 0.03
    assert everywhere[:RNG_BLOCK, :RNG_BLOCK].ne(everywhere[:RNG_BLOCK, RNG_BLOCK : 2 * RNG_BLOCK]).all()
    index = torch.tensor([5, 1500, 3000])
    assert torch.equal(normal_of([7], index), normal_of([7], torch.arange(4000))[index])


@pytest.mark.parametrize(
    ("shape", "tile", "halo"),
    [((64, 100), (64, 32), (0, 8)), ((50,), (16,), (20,)), ((30, 40, 9), (10, 16, 4), (3, 5, 1))],
)
def test_tiles_own_every_point_once_and_know_their_neighbours(shape, tile, halo):
    tiling = Tiling(shape, tile, halo)
    owner: dict[tuple[int, ...], tuple[int, ...]] = {}
    for i in tiling.tiles:
        for point in itertools.product(*tiling.core(i)):
            assert point not in owner
            owner[point] = i
        own = [range(*s.indices(len(r))) for s, r in zip(tiling.own(i), tiling.region(i), strict=True)]
        for inside, region, core in zip(own, tiling.region(i), tiling.core(i), strict=True):
            assert [region[j] for j in inside] == list(core)
    assert len(owner) == math.prod(shape)
    for i in tiling.tiles:
        seen = itertools.product(*([j % n for j in r] for r, n in zip(tiling.region(i), shape, strict=True)))
        needed = {owner[point] for point in seen}
        assert needed <= set(tiling.neighbours(i))
        assert all(i in tiling.neighbours(j) for j in tiling.neighbours(i))
        alongs = []
        for axis, n in enumerate(shape):  # and no others: along each axis one of the two sees a point of the other
            intervals = [(tiling.region(j)[axis], tiling.core(j)[axis]) for j in tiling.tiles]
            seen_by = [({p % n for p in region}, set(core)) for region, core in intervals]
            own_seen, own = seen_by[tiling.tiles.index(i)]
            pairs = zip(tiling.tiles, seen_by, strict=True)
            alongs.append({j[axis] for j, (seen, core) in pairs if seen & own or own_seen & core})
        assert set(tiling.neighbours(i)) == set(itertools.product(*alongs))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda p, m: (replace(p, network=FNO(1, 2, 4, 4, 1)), m), "expected a prior of patches"),
        (lambda p, m: (p, replace(m, noise=PoissonNoise(1.0), y=m.y.abs().round())), "independent Gaussian noise"),
        (lambda p, m: (p, sensors(wall_grid(180, 8 * math.pi, dx_plus=9.0))), "found a spacing of 9"),
        (
            lambda p, m: (p, replace(m, grid=Grid((replace(GRID.axes[0], units="h"), GRID.axes[1])))),
            "found coordinates in h, expected nu/u_tau",
        ),
    ],
)
def test_what_tiles_are_not_for_is_refused(change, words):
    with pytest.raises(InfieldError, match=words):
        TiledPosterior(TiledFAPS(tile=(32, 32), halo=(8, 8)), *change(prior(), sensors()), SEED)


@pytest.mark.parametrize("settings", [{"tile": (0, 8), "halo": (1, 1)}, {"tile": (8, 8), "halo": (1,)}, {"levels": 0}])
def test_settings_that_cannot_be_are_refused(settings):
    with pytest.raises(InfieldError, match="expected"):
        TiledFAPS(**{"tile": (8, 8), "halo": (1, 1), **settings}).tiling(GRID).core((0, 0))
