"""A prior of volumes from a prior of slices: each slice an independent field of the slices' law.

It does not model correlations between neighbouring slices; `posterior.samplers.dds` and
`posterior.samplers.diffusion_mbir` add them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from infield.core.brief import Brief
from infield.core.errors import InfieldError
from infield.core.transform import Window
from infield.priors.base import FlowPrior, Standardisation
from infield.priors.covariance.base import Covariance
from infield.priors.covariance.modes import Modes
from infield.priors.gaussian.prior import GaussianPrior
from infield.priors.torus_window import WindowedStandardisation

FACTOR_ENTRIES = 50_000_000
"""Maximum number of entries up to which the low-rank parts of all slices are kept (400 MB)."""


@dataclass(frozen=True)
class SliceModes:
    """A basis of slices as a basis of volumes `(..., channel, z, *space)`, slice by slice.

    Arguments:
        inner: Basis of fields of shape `(channel, *space)`.
        ndim: Number of axes of a slice's space.
    """

    inner: Modes
    ndim: int

    def analyse(self, x: Tensor) -> Tensor:
        return self._swap(self.inner.analyse(self._swap(x)))

    def synthesise(self, c: Tensor) -> Tensor:
        return self._swap(self.inner.synthesise(self._swap(c)))

    def white(self, w: Tensor) -> Tensor:
        return self._swap(self.inner.white(self._swap(w)))

    def white_on_grid(self, c: Tensor) -> Tensor:
        return self._swap(self.inner.white_on_grid(self._swap(c)))

    def to(self, device: torch.device | str) -> SliceModes:
        return SliceModes(self.inner.to(device), self.ndim)

    def _swap(self, x: Tensor) -> Tensor:
        return x.transpose(-self.ndim - 1, -self.ndim - 2)


@dataclass(frozen=True, kw_only=True, repr=False)
class SlicePrior(Brief):
    """Volumes of `depth` independent slices; see `priors.base.FlowPrior`. Fields are `(batch, channel, z, *space)`.

    Arguments:
        slices: The prior of one slice.
        depth: Number of slices.
    """

    slices: FlowPrior
    depth: int

    def about(self) -> dict[str, object]:
        """What a short description shows."""
        return {"name": repr(self.name), "slices": repr(self.slices)}

    @property
    def name(self) -> str:
        return f"{self.slices.name}, {self.depth} slices of it"

    @property
    def units(self) -> str | None:
        return self.slices.units

    @property
    def gaussian(self) -> bool:
        return self.slices.gaussian

    @cached_property
    def source(self) -> Covariance:
        return self._of_all(self.slices.source)

    @cached_property
    def covariance(self) -> Covariance:
        """That of the slices in blocks; where this outgrows memory, a surrogate keeps its diagonal alone.

        Raises:
            InfieldError: It outgrows memory and the prior is Gaussian, where it must be right.
        """
        of_slice = self.slices.covariance
        entries = of_slice.rank * self.depth**2 * of_slice.diagonal.numel()
        if entries <= FACTOR_ENTRIES:
            return self._of_all(of_slice)
        if self.gaussian:
            raise InfieldError(
                found=f"a covariance of rank {of_slice.rank} per slice with {entries:.0e} entries",
                expected=f"at most {FACTOR_ENTRIES:.0e}",
                where=f"prior '{self.name}'",
                remedy="use {sampler}, which does without",
                parameters={"sampler": "dds"},
            )
        return self._of_all(of_slice.truncated(0))

    @cached_property
    def mean(self) -> Tensor:
        return self._stacked(self.slices.mean)

    @cached_property
    def standardisation(self) -> Standardisation:
        units = self.slices.standardisation
        shift, scale = units.shift.unsqueeze(1), units.scale.unsqueeze(1)
        if not isinstance(units, WindowedStandardisation):
            return Standardisation(shift, scale)
        window = Window((self.depth, *units.window.shape), (self.depth, *units.window.torus))
        return WindowedStandardisation(shift, scale, window)

    @property
    def components(self) -> tuple[GaussianPrior, ...] | None:
        """Of a Gaussian prior, itself as one; None where the exact posterior is not known."""
        if not self.gaussian:
            return None
        of_volumes = GaussianPrior(
            name=self.name,
            source=self.source,
            covariance=self.covariance,
            mean=self.mean,
            standardisation=self.standardisation,
            provenance={"kind": "gaussian", "slices": self.slices.name},
            units=self.units,
        )
        return (of_volumes,)

    @property
    def weights(self) -> Tensor:
        return torch.ones(1, dtype=torch.float64)

    def velocity(self, x: Tensor, t: float) -> Tensor:
        """v(x, t), shape `(batch, channel, z, *space)`: of all slices as one batch."""
        slices = x.transpose(1, 2)
        v = self.velocity_of_slices(slices.flatten(0, 1), t)
        return v.unflatten(0, slices.shape[:2]).transpose(1, 2)

    def velocity_of_slices(self, x: Tensor, t: float) -> Tensor:
        """v(x, t) for slices, shape `(slices, channel, *space)`."""
        return self.slices.velocity(x, t)

    def _of_all(self, covariance: Covariance) -> Covariance:
        modes = SliceModes(covariance.modes, covariance.diagonal.ndim - 1)
        diagonal, rank = self._stacked(covariance.diagonal), covariance.rank
        factors = diagonal.new_zeros((rank, self.depth, *diagonal.shape))
        for z in range(self.depth):
            factors[:, z, :, z] = covariance.factors
        return Covariance(modes, diagonal, factors.flatten(0, 1))

    def _stacked(self, field: Tensor) -> Tensor:
        return field.unsqueeze(1).repeat(1, self.depth, *[1] * (field.ndim - 1))
