"""A learned prior on another discretisation of its domain: some parts are evaluated anew, others interpolated."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from infield.core.errors import InfieldError
from infield.core.grid import Axis, Grid, GridLike, PointSet
from infield.core.renamed import old_names
from infield.priors.covariance.base import Covariance
from infield.priors.covariance.modes import Hartley
from infield.priors.covariance.repeated import level_where_repeated
from infield.priors.gaussian.kernels import Kernel, White

if not TYPE_CHECKING:
    __getattr__ = old_names(__name__)


@runtime_checkable
class SupportsPoints(Protocol):
    """A network that is bound to points."""

    def on(self, points: Tensor) -> nn.Module:
        """The same weights, bound to points of shape `(n, ndim)`."""
        ...


@runtime_checkable
class SupportsGrids(Protocol):
    """A network for uniform grids of one domain."""

    def placed(self, places: tuple[tuple[float, float], ...]) -> nn.Module:
        """The same weights on a grid: for each axis first point and spacing, as shares of the domain of training."""
        ...


def source_on(law: Kernel, grid: GridLike, channels: int) -> Covariance:
    """A source on a grid, in modes in which data are nearly independent: white noise takes Fourier's where it can."""
    if isinstance(law, White) and isinstance(grid, Grid) and grid.uniform:
        return law.covariance_in(Hartley(grid.ndim), grid, channels)
    return law.covariance(grid, channels)


@dataclass(frozen=True)
class Regrid:
    """From one grid, or scattered points, to another site of the same domain.

    The domain of a grid is its cells, from the first point to one spacing behind the last. A site may exceed it, and
    fall short of it, by one cell.

    Arguments:
        start: Grid or points on which values are known.
        site: Grid or points of the result.
        law: Kernel of the source.
        channels: Number of channels.

    Raises:
        InfieldError: The two differ in axes, units or domain.
    """

    start: GridLike
    site: GridLike
    law: Kernel
    channels: int

    def __post_init__(self) -> None:
        ours, others = _axes_and_units(self.start), _axes_and_units(self.site)
        for what, expected, found in zip(("axes", "units"), ours, others, strict=True):
            if found != expected:
                raise InfieldError(
                    where=f"{what} of the measurement",
                    found=", ".join(found),
                    expected=f"{', '.join(expected)} as in training",
                    remedy="convert them",
                )
        for axis, (low, high, slack) in zip(self._known, self._ends, strict=True):
            first = axis.coordinates[0]
            last = first + axis.spacing * axis.size
            short = isinstance(self.site, Grid) and (low - first > slack or last - high > slack)
            if short or first - low > slack or high - last > slack:
                raise InfieldError(
                    where=f"axis '{axis.name}' of the measurement",
                    found=f"{low:g} to {high:g} {axis.units}",
                    expected=f"{first:g} to {last:g}, the domain of training",
                    remedy="use a prior trained on this domain",
                )

    @property
    def _known(self) -> tuple[Axis, ...]:
        """Axes of the start; none of scattered points."""
        return self.start.axes if isinstance(self.start, Grid) else ()

    @property
    def _ends(self) -> list[tuple[float, float, float]]:
        """For each axis of the start where the site begins, where it ends, and by how much it may miss the domain."""
        ends = []
        for i, axis in enumerate(self._known):
            if isinstance(self.site, Grid):
                h = self.site.spacing[i]
                low = self.site.axes[i].coordinates[0]
                high = low + self.site.lengths[i]
            else:
                values = self.site.points()[:, i]
                low, high, h = float(values.min()), float(values.max()), 0.0
            wraps = axis.periodic and isinstance(self.site, Grid)
            ends.append((low, high, (1e-3 if wraps else 1.001) * max(axis.spacing, h)))
        return ends

    @cached_property
    def source(self) -> Covariance:
        """The law of the source on the site."""
        return source_on(self.law, self.site, self.channels)

    def network(self, network: nn.Module) -> nn.Module:
        """The same weights on the site.

        Raises:
            InfieldError: The network is bound to one grid.
        """
        if isinstance(network, SupportsPoints):
            return network.on(self.site.points())
        if not isinstance(network, SupportsGrids):
            raise InfieldError(
                found=f"the network {type(network).__name__}, which is tied to the grid of its training",
                expected="one for any grid",
                remedy="use a prior trained on this grid, or one with an FNO or a point network",
            )
        if not isinstance(self.start, Grid) or not isinstance(self.site, Grid) or not self.site.uniform:
            raise InfieldError(
                found=f"the network {type(network).__name__}, which takes uniform grids only",
                expected="one for any points",
                remedy="use a prior with a point network",
            )
        places = []
        for axis, new, length in zip(self.start.axes, self.site.axes, self.start.lengths, strict=True):
            places.append(((new.coordinates[0] - axis.coordinates[0]) / length, new.spacing / length))
        return network.placed(tuple(places))

    def fields(self, x: Tensor) -> Tensor:
        """Interpolate fields `(..., *space)`: cubic splines between the points of a grid, kriging by the law of the
        source between scattered ones."""
        if not isinstance(self.start, Grid):
            return (x.flatten(-1) @ self._kriging.mT).reshape(*x.shape[:-1], *self.site.shape)
        axes, ndim = self.start.axes, self.start.ndim
        lead = x.shape[: x.ndim - ndim]
        values = x.reshape(-1, *x.shape[x.ndim - ndim :]).movedim(0, -1).numpy()
        if isinstance(self.site, Grid):
            for i, (axis, new) in enumerate(zip(axes, self.site.axes, strict=True)):
                values = _spline(axis, values, i)(np.array(new.coordinates))
        elif ndim == 1:
            values = _spline(axes[0], values, 0)(self.site.points()[:, 0].numpy())
        else:
            extended = [_extended(axis, values, i) for i, axis in enumerate(axes)]
            for i, axis in enumerate(axes):
                values = _extended(axis, values, i)[1]
            points = tuple(coordinates for coordinates, _ in extended)
            from scipy.interpolate import RegularGridInterpolator  # a fifth of a second of a processor

            table = RegularGridInterpolator(points, values, method="cubic", bounds_error=False, fill_value=None)
            values = table(self.site.points().numpy())
        return torch.from_numpy(np.ascontiguousarray(values)).movedim(-1, 0).reshape(*lead, *self.site.shape)

    def covariance(self, covariance: Covariance, source: Covariance) -> Covariance:
        """A covariance on the site: its factors interpolated; of the source's modes, what the factors leave.

        What they leave is carried as a share of the source's variance of each mode, from mode to mode by wavenumber or,
        in eigenvectors of a dense source, by rank; modes that the start does not resolve take the mean fraction of its
        finest ones.

        Arguments:
            covariance: The covariance at the start.
            source: The source there, in the same modes.
        """
        modes = self.source.modes
        factors = self.source.diagonal.new_zeros((0, *self.source.event_shape))
        if covariance.rank:
            factors = modes.analyse(self.fields(covariance.modes.synthesise(covariance.factors)))
        share = level_where_repeated(covariance.diagonal / source.diagonal, source)
        carry = _by_wavenumber if isinstance(modes, Hartley) else _by_rank
        carried = level_where_repeated(carry(share, source.diagonal, self.source.diagonal), self.source)
        return Covariance(modes, carried * self.source.diagonal, factors)

    @cached_property
    def _kriging(self) -> Tensor:
        """Weights of the values at the start for those at the site, shape `(site, start)`."""
        old, new = self.start.points(), self.site.points()
        both = self.law.covariance(PointSet.at(torch.cat([old, new])))
        K = both.apply(torch.eye(len(old) + len(new), dtype=torch.float64)[:, None])[:, 0]
        jitter = 1e-10 * K.diagonal().mean() * torch.eye(len(old), dtype=torch.float64)
        return torch.linalg.solve(K[: len(old), : len(old)] + jitter, K[: len(old), len(old) :]).mT


def _axes_and_units(grid: GridLike) -> tuple[list[str], list[str]]:
    own = [axis.units for axis in grid.axes] if isinstance(grid, Grid) else list(grid.axis_units)
    return list(grid.names), own or [grid.units] * grid.ndim  # type: ignore[union-attr]


def _extended(axis: Axis, values: np.ndarray, i: int) -> tuple[np.ndarray, np.ndarray]:
    """Coordinates and values, with the first point repeated at the end of a periodic axis."""
    c = np.array(axis.coordinates)
    if not axis.periodic:
        return c, values
    first = np.take(values, [0], axis=i)
    return np.append(c, c[0] + axis.spacing * axis.size), np.concatenate([values, first], axis=i)


def _spline(axis: Axis, values: np.ndarray, i: int) -> Callable[[np.ndarray], np.ndarray]:
    from scipy.interpolate import CubicSpline  # a fifth of a second of a processor

    coordinates, values = _extended(axis, values, i)
    return CubicSpline(coordinates, values, axis=i, bc_type="periodic" if axis.periodic else "not-a-knot")


def _by_wavenumber(share: Tensor, old: Tensor, new: Tensor) -> Tensor:
    fine = torch.zeros(share.shape[1:], dtype=torch.bool)
    inside = torch.ones(new.shape[1:], dtype=torch.bool)
    index = []
    for axis, (n, m) in enumerate(zip(old.shape[1:], new.shape[1:], strict=True)):
        shape = [-1 if a == axis else 1 for a in range(old.ndim - 1)]
        k_old, k_new = (torch.fft.fftfreq(size, 1 / size, dtype=torch.float64).round().long() for size in (n, m))
        fine = fine | (k_old.abs() >= 3 * n // 8).reshape(shape)
        inside = inside & (k_new.abs() <= (n - 1) // 2).reshape(shape)
        index.append((k_new % n).reshape(shape))
    tail = share[:, fine].mean(1).reshape(-1, *[1] * (old.ndim - 1))
    return torch.where(inside, share[(slice(None), *torch.broadcast_tensors(*index))], tail)


def _by_rank(share: Tensor, old: Tensor, new: Tensor) -> Tensor:
    carried = torch.empty_like(new)
    for channel in range(len(new)):
        ordered = share[channel].flatten()[old[channel].flatten().argsort(descending=True, stable=True)]
        tail = ordered[-max(math.ceil(len(ordered) / 4), 1) :].mean()
        missing = max(new[channel].numel() - len(ordered), 0)
        values = torch.cat([ordered, tail.expand(missing)])[: new[channel].numel()]
        flat = torch.empty(new[channel].numel(), dtype=new.dtype)
        flat[new[channel].flatten().argsort(descending=True, stable=True)] = values
        carried[channel] = flat.reshape(new[channel].shape)
    return carried
