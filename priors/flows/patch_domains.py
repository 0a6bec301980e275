"""A learned prior of patches on another domain: the same weights, and its spectrum taken as a density."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from infield.core.errors import InfieldError
from infield.core.grid import Axis, Grid, GridLike
from infield.core.transform import Window
from infield.priors.covariance.base import Covariance
from infield.priors.covariance.modes import Hartley
from infield.priors.gaussian.kernels import Kernel, Matern
from infield.priors.gaussian.spectral_density import SpectralDensity

SAME_SPACING = 0.01
"""Relative difference below which two spacings count as the same."""


@runtime_checkable
class SupportsDomains(Protocol):
    """A network for domains of any size, at one spacing."""

    def covering(self, periodic: Sequence[bool], origin: Sequence[int]) -> nn.Module:
        """The same weights on a domain with given periodic axes, whose first point is `origin` points from that of
        training."""
        ...


@dataclass(frozen=True)
class Domain:
    """From the grid of training to another domain with the same axes, units and spacings.

    A non-periodic axis becomes part of a torus that is longer by the domain of training, the range over which
    correlations are known; the domain is a window of it.

    Arguments:
        start: The grid of training.
        site: The grid of the result.

    Raises:
        InfieldError: The two differ in axes, units or spacings, or the site is no uniform grid.
    """

    start: GridLike
    site: GridLike

    def __post_init__(self) -> None:
        names, others = self._grids[0].names, self._grids[1].names
        if names != others:
            permuted = sorted(names) == sorted(others)
            raise InfieldError(
                where="axes of the measurement",
                found=f"({', '.join(others)})",
                expected=f"({', '.join(names)}) as in training",
                remedy="transpose the measurement" if permuted else "name them as in training, in its order",
            )
        for ours, other in self._axes:
            if ours.units != other.units:
                raise InfieldError(
                    where=f"axis '{other.name}' of the measurement",
                    found=f"coordinates in {other.units}",
                    expected=f"{ours.units} as in training",
                    remedy="convert them",
                )
            if not other.uniform or abs(other.spacing / ours.spacing - 1) > SAME_SPACING:
                found = f"a spacing of {other.spacing:g}" if other.uniform else "uneven spacings"
                raise InfieldError(
                    where=f"its spacing along '{other.name}' is {ours.spacing:g} {other.units}",
                    found=found,
                    expected="the same on any domain",
                    remedy="resample the field, or take a prior of that spacing",
                )

    @property
    def _grids(self) -> tuple[Grid, Grid]:
        if not isinstance(self.start, Grid) or not isinstance(self.site, Grid):
            raise InfieldError(where="it is a prior of patches", found="scattered points", expected="a grid")
        return self.start, self.site

    @property
    def _axes(self) -> list[tuple[Axis, Axis]]:
        """Each axis of the grid of training, and the same one of the domain."""
        start, site = self._grids
        return list(zip(start.axes, site.axes, strict=True))

    @cached_property
    def window(self) -> Window:
        """The torus, and what of it is the domain."""
        from scipy.fft import next_fast_len  # a quarter of a second of a processor

        torus = tuple(
            axis.size if axis.periodic else int(next_fast_len(axis.size + ours.size, real=True))
            for ours, axis in self._axes
        )
        return Window(self.site.shape, torus)

    @property
    def closed(self) -> bool:
        """Whether the domain is the torus."""
        return self.window.shape == self.window.torus

    @cached_property
    def origin(self) -> tuple[int, ...]:
        """Offset of the domain from the grid of training, in points."""
        return tuple(round((axis.coordinates[0] - ours.coordinates[0]) / ours.spacing) for ours, axis in self._axes)

    def network(self, network: SupportsDomains) -> nn.Module:
        """The same weights on the torus."""
        return network.covering([True] * self.site.ndim, self.origin)

    def spectrum(self, variance: Tensor, *, whole: bool = True) -> Tensor:
        """Variances of the modes of the torus from those of the grid of training, shape `(channel, *torus)`."""
        return SpectralDensity(variance).on(self.window.torus, whole=whole and self.closed)

    def source(self, law: Kernel, channels: int) -> Covariance:
        """The law of the source on the torus."""
        law = replace(law, wrap=False) if isinstance(law, Matern) else law  # the torus is periodic already
        spectrum = law.embed(self.site, self.window.torus).spectrum
        spectrum = spectrum.clamp_min(1e-15 * float(spectrum.max()))
        return Covariance.diagonal_in(Hartley(self.site.ndim), spectrum.expand(channels, *self.window.torus))
