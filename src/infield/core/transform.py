"""Transforms: invertible maps x = T(z) from the variable of a model to a field in its units.

A prior is defined on standardised fields, on a torus of which a domain is a part, of white noise behind a
correlated field, or of a field of any sign behind one that is positive or bounded. A `Chain` joins several; a
measurement of x becomes one of z by `Measurement.pullback(transform)`, with the same likelihood.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor
from torch.nn import functional

from infield.core.errors import InfieldError


class Transform(ABC):
    """An invertible map of fields `(batch, channel, *space)`."""

    @abstractmethod
    def forward(self, z: Tensor) -> Tensor:
        """x = T(z)."""

    @abstractmethod
    def inverse(self, x: Tensor) -> Tensor:
        """z = T^-1(x).

        Raises:
            InfieldError: x is outside of what T reaches, or T has no inverse.
        """

    @abstractmethod
    def log_abs_det(self, z: Tensor) -> Tensor:
        """log |det dT/dz| at each z, shape `(batch,)`.

        Raises:
            InfieldError: T has no inverse.
        """

    @property
    def parts(self) -> tuple[Transform, ...]:
        """The transforms that this one is made of, the last one to be applied first."""
        return (self,)

    def output_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Shape `(channel, *space)` of T(z) for z of a shape `(channel, *space)`."""
        return event_shape


@dataclass(frozen=True)
class Chain(Transform):
    """T(z) = T_1(T_2(... T_n(z))).

    Arguments:
        transforms: T_1 first.
    """

    transforms: tuple[Transform, ...]

    def forward(self, z: Tensor) -> Tensor:
        for transform in reversed(self.transforms):
            z = transform.forward(z)
        return z

    def inverse(self, x: Tensor) -> Tensor:
        for transform in self.transforms:
            x = transform.inverse(x)
        return x

    def log_abs_det(self, z: Tensor) -> Tensor:
        total = z.new_zeros(len(z))
        for transform in reversed(self.transforms):
            total = total + transform.log_abs_det(z)
            z = transform.forward(z)
        return total

    @property
    def parts(self) -> tuple[Transform, ...]:
        return tuple(part for transform in self.transforms for part in transform.parts)

    def output_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        for transform in reversed(self.transforms):
            event_shape = transform.output_shape(event_shape)
        return event_shape


@dataclass(frozen=True)
class Affine(Transform):
    """shift + scale z, value by value.

    Arguments:
        shift: In the units of the field, broadcastable to `(channel, *space)`.
        scale: Likewise, no zeros.
    """

    shift: Tensor
    scale: Tensor

    def forward(self, z: Tensor) -> Tensor:
        return self.shift.to(z) + self.scale.to(z) * z

    def inverse(self, x: Tensor) -> Tensor:
        return (x - self.shift.to(x)) / self.scale.to(x)

    def log_abs_det(self, z: Tensor) -> Tensor:
        return self.scale.to(z).abs().log().expand(z.shape).flatten(1).sum(1)


@dataclass(frozen=True)
class Window(Transform):
    """A domain as the first points along each axis of a torus; many fields on the torus look the same through it.

    Arguments:
        shape: Points of the domain along each axis.
        torus: Points of the torus, at least as many.
    """

    shape: tuple[int, ...]
    torus: tuple[int, ...]

    def forward(self, z: Tensor) -> Tensor:
        return self.crop(z)

    def inverse(self, x: Tensor) -> Tensor:
        raise InfieldError(
            where="window onto a torus",
            found="a field on the window, to be inverted",
            expected="a field on the whole torus, which the window does not determine",
        )

    def log_abs_det(self, z: Tensor) -> Tensor:
        raise InfieldError(
            where="window onto a torus",
            found="a map to part of the field",
            expected="an invertible one, which has a determinant",
        )

    def output_shape(self, event_shape: tuple[int, ...]) -> tuple[int, ...]:
        return (event_shape[0], *self.shape)

    def crop(self, x: Tensor) -> Tensor:
        """The domain's part of fields on the torus, shape `(..., *shape)`."""
        for axis, n in zip(range(-len(self.shape), 0), self.shape, strict=True):
            x = x.narrow(axis, 0, n)
        return x

    def pad(self, x: Tensor) -> Tensor:
        """Fields on the domain with zeros around them, shape `(..., *torus)`: the transpose of `crop`."""
        widths = [(0, m - n) for n, m in zip(self.shape, self.torus, strict=True)]
        return functional.pad(x, [width for pair in reversed(widths) for width in pair])


class Root(Protocol):
    """S, an invertible linear map from white noise to correlated fields."""

    def colour(self, xi: Tensor, /) -> Tensor:
        """S xi."""
        ...

    def whiten(self, x: Tensor, /) -> Tensor:
        """S^-1 x."""
        ...

    def transpose(self, x: Tensor, /) -> Tensor:
        """S^T x."""
        ...

    def log_abs_det(self, shape: torch.Size, /) -> Tensor:
        """log |det S| for fields of a shape `(batch, channel, *space)`, shape `(batch,)` or none."""
        ...


@dataclass(frozen=True)
class Whitening(Transform):
    """x = S xi of white noise xi.

    Arguments:
        root: S, a root of the covariance of x.
    """

    root: Root

    def forward(self, z: Tensor) -> Tensor:
        return self.root.colour(z)

    def inverse(self, x: Tensor) -> Tensor:
        return self.root.whiten(x)

    def log_abs_det(self, z: Tensor) -> Tensor:
        return self.root.log_abs_det(z.shape).to(z).expand(len(z))


class Pointwise(Transform):
    """An increasing function of every value; `name` is that of the operator that a file may name."""

    name: ClassVar[str]

    def parameters(self) -> dict[str, Any]:
        """Numbers of the function, in JSON types."""
        return {}

    @abstractmethod
    def log_slope(self, z: Tensor) -> Tensor:
        """Logarithm of the derivative at every value, shape of `z`."""

    def slope(self, z: Tensor) -> Tensor:
        """The derivative at every value, shape of `z`."""
        return self.log_slope(z).exp()

    def log_abs_det(self, z: Tensor) -> Tensor:
        return self.log_slope(z).flatten(1).sum(1)

    def _refuse_outside(self, inside: Tensor, expected: str) -> None:
        if not inside.all():
            outside = int((~inside).sum())
            raise InfieldError(where=f"inverse of {self.name}", found=f"{outside} values outside", expected=expected)


@dataclass(frozen=True)
class Exponential(Pointwise):
    """exp(z), above zero: what acts by factors."""

    name: ClassVar[str] = "exp"

    def forward(self, z: Tensor) -> Tensor:
        return z.exp()

    def inverse(self, x: Tensor) -> Tensor:
        self._refuse_outside(x > 0, "values above 0")
        return x.log()

    def log_slope(self, z: Tensor) -> Tensor:
        return z


@dataclass(frozen=True)
class Softplus(Pointwise):
    """log(1 + exp(z)), above zero and nearly linear where large; without overflow, and without loss of digits at -z."""

    name: ClassVar[str] = "softplus"

    def forward(self, z: Tensor) -> Tensor:
        return torch.logaddexp(z, torch.zeros_like(z))

    def inverse(self, x: Tensor) -> Tensor:
        self._refuse_outside(x > 0, "values above 0")
        return x + torch.log(-torch.expm1(-x))

    def log_slope(self, z: Tensor) -> Tensor:
        return functional.logsigmoid(z)

    def slope(self, z: Tensor) -> Tensor:
        return torch.sigmoid(z)


@dataclass(frozen=True)
class Bounded(Pointwise):
    """low + (high - low) / (1 + exp(-z)), the logistic function onto an interval.

    Arguments:
        low: Lower end of the interval, which is not reached.
        high: Upper end, likewise.

    Raises:
        InfieldError: They are no finite numbers in this order.
    """

    low: float = 0.0
    high: float = 1.0

    name: ClassVar[str] = "bounded"

    def __post_init__(self) -> None:
        if not -float("inf") < self.low < self.high < float("inf"):
            raise InfieldError(
                where="bounded",
                found=f"low {self.low:g}, high {self.high:g}",
                expected="finite numbers, low below high",
            )

    def parameters(self) -> dict[str, Any]:
        return {"low": self.low, "high": self.high}

    def forward(self, z: Tensor) -> Tensor:
        return self.low + (self.high - self.low) * torch.sigmoid(z)

    def inverse(self, x: Tensor) -> Tensor:
        self._refuse_outside((x > self.low) & (x < self.high), f"values between {self.low:g} and {self.high:g}")
        return torch.log(x - self.low) - torch.log(self.high - x)

    def log_slope(self, z: Tensor) -> Tensor:
        width = torch.log(torch.as_tensor(self.high - self.low).to(z))
        return width + functional.logsigmoid(z) + functional.logsigmoid(-z)
