"""A Gaussian prior with its velocity in closed form: exact, and the exact test of every sampler."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor

from infield.core.brief import Brief
from infield.core.errors import InfieldError
from infield.core.grid import GridLike
from infield.priors.base import Standardisation
from infield.priors.covariance.base import Covariance, from_draws
from infield.priors.covariance.modes import Hartley
from infield.priors.covariance.repeated import level_where_repeated
from infield.priors.gaussian.bridge import Bridge
from infield.priors.gaussian.circulant_embedding import Embedding
from infield.priors.gaussian.kernels import Kernel, White
from infield.priors.torus_window import WindowedStandardisation

BRIDGE_CACHE_SIZE = 128
"""Times whose factorisations a prior keeps."""


@dataclass(frozen=True, kw_only=True, repr=False)
class GaussianPrior(Brief):
    """N(mean, C) on standardised fields, with the independent bridge to the source N(0, C_0).

    Arguments:
        name: Name in reports.
        source: C_0, diagonal in its modes.
        covariance: C, in the same modes.
        mean: Mean of the standardised field, shape `(channel, *space)`.
        standardisation: Map from standardised fields to fields in units.
        provenance: Origin of its numbers, in plain JSON types; copied to the posterior's file.
        units: Units of the field, where they are known; a measurement in others is refused.
    """

    name: str
    source: Covariance
    covariance: Covariance
    mean: Tensor
    standardisation: Standardisation
    provenance: dict[str, Any]
    units: str | None = None

    def about(self) -> dict[str, object]:
        """What a short description shows."""
        shape = self.standardisation.output_shape(self.covariance.event_shape)
        return {"name": repr(self.name), "fields": f"{shape} in {self.units or 'any units'}"}

    @property
    def gaussian(self) -> Literal[True]:
        return True

    @property
    def components(self) -> tuple[GaussianPrior, ...]:
        """A mixture of one: what exact posteriors are computed from."""
        return (self,)

    @property
    def weights(self) -> Tensor:
        return torch.ones(1, dtype=torch.float64)

    def velocity(self, x: Tensor, t: float) -> Tensor:
        """v(x, t), shape `(batch, channel, *space)`; see `priors.gaussian.prior.bridge`."""
        return self.bridge(t).velocity(x, self.mean)

    def bridge(self, t: float) -> Bridge:
        """The joint law of x_0, x_1 and x_t; those of the last times are kept, since they hold a factorisation."""
        if t not in self._bridges:
            if len(self._bridges) == BRIDGE_CACHE_SIZE:
                self._bridges.clear()
            self._bridges[t] = Bridge(self.covariance, self.source, t)
        return self._bridges[t]

    @cached_property
    def _bridges(self) -> dict[float, Bridge]:
        return {}

    def in_units(self, shift: float | Tensor, scale: float | Tensor) -> GaussianPrior:
        """The same standardised prior for fields `shift + scale x`; tensors have shape `(channel, 1, ...)`."""
        one = torch.ones_like(self.standardisation.shift)
        return replace(self, standardisation=replace(self.standardisation, shift=shift * one, scale=scale * one))


def gaussian_prior(
    law: Kernel,
    grid: GridLike,
    *,
    channels: int = 1,
    source: Kernel | None = None,
    name: str | None = None,
    torus: tuple[int, ...] | None = None,
) -> GaussianPrior:
    """The prior of a law by name (Matern of any order, white) on a grid.

    On a large uniform grid that is not periodic it is a prior of fields on a torus, seen through a window
    (`priors.torus_window`): on the domain it is exactly the law, and every product costs O(N log N).

    Arguments:
        law: The law of the standardised field.
        grid: Grid of the field.
        channels: Number of independent channels.
        source: Kernel of the source; the default is white on scattered points' and grids' own modes.
        name: Name in reports.
        torus: Points of the torus along each axis, where other priors are to share it; see `shared_torus`.
    """
    provenance: dict[str, Any] = {"kind": "gaussian", "law": str(law), "source": str(source or White())}
    torus = torus or shared_torus((law, source or White()), grid)
    if torus is not None:
        seen, start = law.embed(grid, torus), (source or White()).embed(grid, torus)
        covariance, first = (_on_torus(embedding, channels) for embedding in (seen, start))
        provenance |= {"torus": list(torus), "clipped": max(seen.clipped, start.clipped)}
    elif source is None:
        covariance = law.covariance(grid, channels)
        first = White().covariance_in(covariance.modes, grid, channels)
    else:
        first = source.covariance(grid, channels)
        covariance = law.covariance_in(first.modes, grid, channels)
    standardisation = Standardisation.identity(covariance.event_shape)
    if torus is not None:
        standardisation = WindowedStandardisation(standardisation.shift, standardisation.scale, seen.window)
    return GaussianPrior(
        name=name or str(law),
        source=first,
        covariance=covariance,
        mean=torch.zeros(covariance.event_shape, dtype=torch.float64),
        standardisation=standardisation,
        provenance=provenance,
    )


def shared_torus(laws: Iterable[Kernel], grid: GridLike) -> tuple[int, ...] | None:
    """Return the points of a torus shared by several laws on a grid; None if none of them prefers a torus."""
    laws = tuple(laws)
    if not any(law.prefers_embedding(grid) for law in laws):
        return None
    return tuple(max(sizes) for sizes in zip(*(law.embed(grid).window.torus for law in laws), strict=True))


def _on_torus(embedding: Embedding, channels: int) -> Covariance:
    spectrum = embedding.spectrum.clamp_min(1e-15 * float(embedding.spectrum.max()))  # a source must be invertible
    return Covariance.diagonal_in(Hartley(spectrum.ndim), spectrum.expand(channels, *spectrum.shape).clone())


def spectrum_prior(spectrum: Tensor, *, name: str = "given power spectrum") -> GaussianPrior:
    """The stationary prior whose Hartley modes have given variances, on a periodic grid, from a white source.

    Arguments:
        spectrum: Variance of every mode in the order of `torch.fft.fftn`, shape `(channel, *space)`, even in the
            wavenumber, >= 0; its mean over the modes is the variance of each value.

    Raises:
        InfieldError: If a variance is negative or not finite.
    """
    if not torch.isfinite(spectrum).all() or (spectrum < 0).any():
        raise InfieldError(where="power spectrum", found="a negative, NaN or Inf variance of a mode", expected="none")
    modes = Hartley(spectrum.ndim - 1)
    covariance = Covariance.diagonal_in(modes, spectrum.to(torch.float64))
    return GaussianPrior(
        name=name,
        source=Covariance.diagonal_in(modes, torch.ones_like(covariance.diagonal)),
        covariance=covariance,
        mean=torch.zeros(covariance.event_shape, dtype=torch.float64),
        standardisation=Standardisation.identity(covariance.event_shape),
        provenance={"kind": "gaussian", "law": name},
    )


def empirical_prior(fields: Tensor, grid: GridLike, *, rank: int = 64, source: Kernel | None = None) -> GaussianPrior:
    """Mean and low-rank-plus-diagonal covariance of example fields, standardised channel by channel.

    Arguments:
        fields: Examples in their units, shape `(examples, channel, *space)`.
        grid: Grid of the fields.
        rank: Principal directions that are kept; what they leave stays on the diagonal of the source's modes, the same
            for all modes of a repeated variance (`priors.covariance.repeated`).
        source: Kernel of the source; the default is white.

    Raises:
        InfieldError: If there are fewer than three fields, or a channel has no variance.
    """
    space = tuple(range(2, fields.ndim))
    shift = fields.mean((0, *space)).reshape(-1, *[1] * len(space)).to(torch.float64)
    scale = fields.to(torch.float64).std((0, *space)).reshape(shift.shape)
    if len(fields) < 3 or not (scale > 0).all():
        raise InfieldError(
            where="empirical prior",
            found=f"{len(fields)} fields of standard deviations {scale.flatten().tolist()}",
            expected="at least 3 fields and positive finite ones",
        )
    standardisation = Standardisation(shift, scale)
    x = standardisation.from_units(fields.to(torch.float64))
    start = (source or White()).covariance(grid, fields.shape[1])
    estimate = from_draws(start.modes, x, rank=rank)
    return GaussianPrior(
        name=f"empirical, rank {rank}",
        source=start,
        covariance=replace(estimate, diagonal=level_where_repeated(estimate.diagonal, start)),
        mean=x.mean(0),
        standardisation=standardisation,
        provenance={"kind": "gaussian", "law": f"empirical, rank {rank}, {len(fields)} examples"},
    )
