r"""FAPS on fields that are larger than memory: one level on one tile at a time.

`posterior.samplers.faps` with the closed form of point sensors, cut into tiles of a domain. From level to level a tile
takes in the state of its surroundings, a halo of some points on each side, and gives out its own points alone. On tile
and halo, which for this one step are made periodic, the steps are those of `FAPS`: the prior is the same
there (`priors.flows.patch_domains`), the data are the sensors that lie inside. White noise belongs to places, levels
and samples (`posterior.inference.tiling`), so that neighbours have the same noise in what they share.

Where tile and halo are the whole domain this is FAPS. Otherwise it errs by what the halo cuts off: of the covariance
and its root, and of the data of sensors beyond it. The result does not depend on the order of tiles or on which worker
computes them.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from infield.core.errors import InfieldError
from infield.core.grid import Axis, Grid, PointSet, grid_from_json
from infield.core.transform import Affine
from infield.physics.measurement import Measurement
from infield.physics.noise.gaussian import refuse_unknown_variance
from infield.physics.noise.registry import GaussianNoise
from infield.physics.operators.sensors import PointSensors
from infield.posterior.inference.linear_gaussian import LinearGaussianData
from infield.posterior.inference.tiling import Tiling, normal_at, normal_of
from infield.priors.base import denoise
from infield.priors.flows.flow import LearnedFlow, on_domain
from infield.priors.flows.patch_domains import Domain, SupportsDomains
from infield.priors.gaussian.bridge import Bridge

SOURCE, DRAW, DATA = 0, 1, 2
"""What random numbers of a level are for."""


@dataclass(frozen=True, kw_only=True)
class TiledFAPS:
    """FAPS tile by tile, for priors of patches and point sensors with independent Gaussian noise.

    Arguments:
        tile: Points of a tile along each axis.
        halo: Points of its surroundings, on each side. The lattice of the prior's patches is the same in all tiles
            where tile and halo are multiples of its stride (patch less overlap).
        levels: K, the levels of annealing.
        block: Samples that are drawn together. Part of a run's identity.
    """

    tile: tuple[int, ...]
    halo: tuple[int, ...]
    levels: int = 20
    block: int = 4

    method: ClassVar[str] = "faps-flow-tiled"

    def __post_init__(self) -> None:
        if self.levels < 1 or self.block < 1:
            raise InfieldError(
                where=f"sampler {self.method}", found=f"levels={self.levels}, block={self.block}", expected="at least 1"
            )

    def tiling(self, grid: Grid) -> Tiling:
        """The tiles of a grid. A non-periodic axis gets one halo of points behind its end, and is periodic then."""
        if len(self.halo) != grid.ndim:
            raise InfieldError(where="tiles", found=f"halos {self.halo}", expected=f"one for each of {grid.ndim} axes")
        axes = zip(grid.axes, self.halo, strict=True)
        return Tiling(tuple(axis.size + (0 if axis.periodic else halo) for axis, halo in axes), self.tile, self.halo)


@dataclass(frozen=True)
class TiledPosterior:
    """A prior, sensors and a grid, ready for any tile of it.

    Arguments:
        sampler: How.
        prior: A prior of patches, on the grid of its training.
        measurement: Point sensors with independent Gaussian noise, one channel.
        seed: Of the run.

    Raises:
        InfieldError: The prior is no such one, or not for this grid; or the measurement is another.
    """

    sampler: TiledFAPS
    prior: LearnedFlow
    measurement: Measurement
    seed: int

    def __post_init__(self) -> None:
        operator, noise, grid = self.measurement.operator, self.measurement.noise, self.measurement.grid
        if not isinstance(self.prior.network, SupportsDomains):
            raise InfieldError(
                where="tiles",
                found=f"prior '{self.prior.name}'",
                expected="a prior of patches, whose network takes domains of any size",
            )
        if not isinstance(operator, PointSensors) or not isinstance(noise, GaussianNoise) or operator.channels != 1:
            name = self.measurement.description.get("name")
            raise InfieldError(
                where="tiles",
                found=f"operator '{name}' and noise {noise}",
                expected="point sensors on one channel, with independent Gaussian noise",
                remedy="leave out {tiles}",
                parameters=["tiles"],
            )
        refuse_unknown_variance(noise)
        Domain(grid_from_json(self.prior.grid_description), grid)

    @property
    def tiling(self) -> Tiling:
        """The tiles of the domain, closed."""
        assert isinstance(self.measurement.grid, Grid)
        return self.sampler.tiling(self.measurement.grid)

    def advance(self, tile: tuple[int, ...], level: int, samples: range, u_t: Tensor | None) -> Tensor:
        """What a tile owns of the samples at the next level; after the last one in units.

        Arguments:
            tile: Which one.
            level: k, from 0.
            samples: Numbers of the samples.
            u_t: State at t = k / K of the tile with its halo, shape `(samples, 1, *region)`; None at level 0.

        Returns:
            Shape `(samples, 1, *core)`, float64.
        """
        tiling, K = self.tiling, self.sampler.levels
        t, t_next = level / K, (level + 1) / K
        local, region = self.local_prior(tile), tiling.region(tile)
        C, C_0, modes = local.covariance, local.source, local.source.modes

        def colour(variance: Tensor, what: int, k: int) -> Tensor:
            keys = ([self.seed, i, k, what] for i in samples)
            white = torch.stack([normal_at(key, region, tiling.shape) for key in keys])[:, None]
            return modes.synthesise(variance.sqrt() * modes.analyse(white))

        if u_t is None:
            u_t = colour(C_0.diagonal, SOURCE, 0)
        K_t = Bridge(C, C_0, t).conditional()
        u_1 = denoise(local, u_t, t) + colour(K_t.diagonal, DRAW, level)
        sensors, inside = self.local_data(tile)
        if sensors is not None:
            units = local.standardisation
            data = LinearGaussianData(sensors.pullback(Affine(units.shift, units.scale)), modes)
            eta = torch.stack([normal_of([self.seed, i, level, DATA], inside) for i in samples])[:, None]
            u_1 = u_1 + data.correction(data.misfit(u_1) + data.noise.root(eta), K_t)
        if t_next < 1:
            u_1 = t_next * u_1 + (1 - t_next) * colour(C_0.diagonal, SOURCE, level + 1)
        else:
            u_1 = local.standardisation.to_units(u_1)
        own: tuple[Any, ...] = (..., *tiling.own(tile))
        return u_1[own]

    def local_prior(self, tile: tuple[int, ...]) -> LearnedFlow:
        """The prior on a tile with its halo, as if it were periodic."""
        grid = self.measurement.grid
        whole = self.tiling.whole(tile) and grid.shape == self.tiling.shape
        return on_domain(self.prior, self._grid(tile), whole=whole)

    def local_data(self, tile: tuple[int, ...]) -> tuple[Measurement | None, Tensor]:
        """The sensors all of whose points lie in a tile with its halo, and their indices."""
        operator, grid, tiling = self.measurement.operator, self._grid(tile), self.tiling
        assert isinstance(operator, PointSensors) and isinstance(self.measurement.noise, GaussianNoise)
        places = torch.unravel_index(operator.corners, operator.grid.shape)
        regions = zip(places, tiling.region(tile), tiling.shape, strict=True)
        local = [(place - seen.start) % n for place, seen, n in regions]
        sizes = tuple(map(len, tiling.region(tile)))
        seen = torch.stack([place < size for place, size in zip(local, sizes, strict=True)]).all(0).all(0)
        if self.measurement.observed is not None:
            seen &= self.measurement.observed[0]
        inside = seen.nonzero()[:, 0]
        if len(inside) == 0:
            return None, inside
        corners = torch.zeros_like(operator.corners[:, inside])
        for place, size in zip(local, sizes, strict=True):
            corners = corners * size + place[:, inside]
        where = PointSet(tuple((float(i),) for i in inside), ("sensor",))
        variance = self.measurement.noise.variance.expand(self.measurement.y[0].shape)[:, inside]
        return replace(
            self.measurement,
            y=self.measurement.y[:, :, inside],
            operator=PointSensors(grid, 1, corners, operator.weights[:, inside], where),
            noise=GaussianNoise(variance),
            grid=grid,
            observed=None,
            truth=None,
            description={},
            arrays={},
            context={},
        ), inside

    def _grid(self, tile: tuple[int, ...]) -> Grid:
        """A tile with its halo, as a periodic grid."""
        grid = self.measurement.grid
        assert isinstance(grid, Grid)

        def axis(of: Axis, seen: range) -> Axis:
            return Axis(of.name, tuple(of.coordinates[0] + of.spacing * i for i in seen), of.units, periodic=True)

        return Grid(tuple(axis(of, seen) for of, seen in zip(grid.axes, self.tiling.region(tile), strict=True)))
