"""Priors: a small base, and the capabilities that samplers require. A flow prior is a source measure and a velocity;
everything else about it follows from these two.

Time convention, fixed here once for the whole suite: t = 0 is the source, t = 1 is data,

    x_t = t x_1 + (1 - t) x_0,    v(x, t) = E[x_1 - x_0 | x_t = x],    E[x_1 | x_t] = x_t + (1 - t) v(x_t, t).

A prior is defined on standardised fields x; a user's field in its own units is `shift + scale x`, channel by channel.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Generator, Tensor

from infield.core.renamed import old_names
from infield.core.transform import Affine, Chain, Transform
from infield.priors.covariance.base import Covariance
from infield.priors.integrator import GaussianFlow, integrate

if not TYPE_CHECKING:
    __getattr__ = old_names(__name__)


@dataclass(frozen=True)
class Standardisation(Affine):
    """Field in units = shift + scale * standardised field, both of shape `(channel, 1, ...)`; what is between a field
    and a prior on more than that is a subclass."""

    @classmethod
    def identity(cls, event_shape: tuple[int, ...]) -> Standardisation:
        one = torch.ones((event_shape[0], *[1] * (len(event_shape) - 1)), dtype=torch.float64)
        return cls(torch.zeros_like(one), one)

    def to_units(self, x: Tensor) -> Tensor:
        """Standardised fields `(batch, channel, *space)` in the units of the field."""
        return self.forward(x)

    def from_units(self, field: Tensor) -> Tensor:
        """Fields in their units, standardised."""
        return self.inverse(field)


class ChainedStandardisation(Standardisation, ABC):
    """Field in units = a chain of transforms of a field of the prior."""

    @property
    @abstractmethod
    def chain(self) -> Chain:
        """The transforms, the last one first to be applied."""

    @property
    def parts(self) -> tuple[Transform, ...]:
        return self.chain.parts

    def forward(self, z: Tensor) -> Tensor:
        return self.chain.forward(z)

    def inverse(self, x: Tensor) -> Tensor:
        return self.chain.inverse(x)

    def log_abs_det(self, z: Tensor) -> Tensor:
        return self.chain.log_abs_det(z)

    def output_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        return self.chain.output_shape(event_shape)


@runtime_checkable
class Prior(Protocol):
    """What a posterior can be drawn from, as far as every sampler needs it; fields are `(channel, *space)`.

    Capabilities lie beside this base, and a sampler declares which of them it accepts (`posterior.samplers.accepts`):
    `FlowPrior` and, of these, `Mixture`; `BridgePrior`; `AmortisedPosterior`.
    """

    @property
    def name(self) -> str:
        """Name in reports."""
        ...

    @property
    def standardisation(self) -> Standardisation:
        """Map from standardised fields to fields in units."""
        ...

    @property
    def units(self) -> str | None:
        """Units of the field; None where the prior was given none."""
        ...


@runtime_checkable
class FlowPrior(Prior, Protocol):
    """A prior with a Gaussian source and a velocity, on standardised fields of shape `(channel, *space)`."""

    @property
    def source(self) -> Covariance:
        """C_0, covariance of the source measure N(0, C_0)."""
        ...

    @property
    def covariance(self) -> Covariance:
        """C, the factored covariance of the prior (a surrogate where the prior is not Gaussian), in the source's
        modes."""
        ...

    @property
    def mean(self) -> Tensor:
        """Mean of the standardised field, shape `(channel, *space)`."""
        ...

    @property
    def gaussian(self) -> bool:
        """Whether the prior is exactly N(mean, covariance)."""
        ...

    def velocity(self, x: Tensor, t: float) -> Tensor:
        """v(x, t) for fields `(batch, channel, *space)` at one time 0 <= t < 1."""
        ...


@runtime_checkable
class Mixture(FlowPrior, Protocol):
    """A flow prior that is a mixture of Gaussian fields: its posterior given linear Gaussian data is closed."""

    @property
    def components(self) -> Sequence[FlowPrior] | None:
        """Gaussian priors that share source, modes and standardisation; None if the closed form is unknown."""
        ...

    @property
    def weights(self) -> Tensor:
        """Weight of each component, shape `(components,)`, summing to one."""
        ...


@runtime_checkable
class BridgePrior(Prior, Protocol):
    """A prior with a corruption and its denoiser: it has no Gaussian source and no velocity."""

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of a standardised field, `(channel, *space)`."""
        ...

    def corrupt(self, x_1: Tensor, t: float, generator: Generator) -> Tensor:
        """Draw x_t given fields x_1 `(batch, channel, *space)`, 0 <= t < 1; shape of x_1."""
        ...

    def denoise(self, x: Tensor, t: float) -> Tensor:
        """E[x_1 | x_t = x], shape of x."""
        ...


@runtime_checkable
class AmortisedPosterior(Prior, Protocol):
    """A model trained for a family of measurements, in place of a prior; valid for that family alone."""

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of a standardised field, `(channel, *space)`."""
        ...

    @property
    def serves(self) -> Mapping[str, Any]:
        """Training range: name of the operator, and range of each number of its fingerprint."""
        ...

    @property
    def noise(self) -> tuple[float, float]:
        """Least and greatest standard deviation of the noise in training, in standardised units."""
        ...


def denoise(prior: FlowPrior, x: Tensor, t: float) -> Tensor:
    """E[x_1 | x_t = x] = x + (1 - t) v(x, t), shape of x."""
    return x + (1 - t) * prior.velocity(x, t)


def score(prior: FlowPrior, x: Tensor, t: float) -> Tensor:
    """grad log p_t(x) = -C_0^-1 (x - t E[x_1 | x]) / (1 - t)^2 for t < 1, shape of x (Tweedie's formula)."""
    modes, c = prior.source.modes, prior.source.diagonal
    return -modes.synthesise(modes.analyse(x - t * denoise(prior, x, t)) / c) / (1 - t) ** 2


def sample(prior: FlowPrior, n: int, generator: Generator, *, steps: int = 50) -> Tensor:
    """Draw n fields in their units by integrating dx/dt = v(x, t) from the source (`priors.integrator`).

    Cost: one velocity call a step; 8 to 16 leave an error of a few per cent of a standard deviation.

    Returns:
        Fields of shape `(n, channel, *space)`.
    """
    return prior.standardisation.to_units(flow(prior, prior.source.sample(n, generator), steps))


def flow(prior: FlowPrior, x_0: Tensor, steps: int) -> Tensor:
    """Phi(x_0), the field that the flow of a prior makes of one of its source, both standardised; shape of x_0."""
    v_0 = prior.mean.to(x_0) - x_0  # E[x_1 | x_0] is the mean
    return integrate(prior.velocity, GaussianFlow.of(prior.source, prior.covariance, prior.mean), x_0, steps, v_0)
