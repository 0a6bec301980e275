"""A prior that lives on a torus and is seen through a window: the domain is its first points along each axis."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from infield.core.errors import InfieldError
from infield.priors.base import Standardisation


@dataclass(frozen=True)
class Window:
    """Part of a torus that is the domain.

    Arguments:
        shape: Points of the domain along each axis.
        torus: Points of the torus, at least as many.
    """

    shape: tuple[int, ...]
    torus: tuple[int, ...]

    def crop(self, x: Tensor) -> Tensor:
        """The domain's part of fields on the torus, shape `(..., *shape)`."""
        for axis, n in zip(range(-len(self.shape), 0), self.shape, strict=True):
            x = x.narrow(axis, 0, n)
        return x

    def pad(self, x: Tensor) -> Tensor:
        """Fields on the domain with zeros around them, shape `(..., *torus)`: the transpose of `crop`."""
        widths = [(0, m - n) for n, m in zip(self.shape, self.torus, strict=True)]
        return torch.nn.functional.pad(x, [width for pair in reversed(widths) for width in pair])


@dataclass(frozen=True)
class WindowedStandardisation(Standardisation):
    """Field in units on the domain = shift + scale * what the window shows of a standardised field on the torus.

    A prior with this standardisation is a prior of fields on the torus to itself, and of fields on the domain to
    others: its draws come out on the domain, and `posterior.samplers.base` shows its fields to the operator through the
    window.

    Arguments:
        window: Visible part of the torus.
    """

    window: Window

    def to_units(self, x: Tensor) -> Tensor:
        """Standardised fields on the torus as fields on the domain in their units."""
        return super().to_units(self.window.crop(x))

    def from_units(self, field: Tensor) -> Tensor:
        """Not defined: many fields on the torus look the same through the window.

        Raises:
            InfieldError: Always.
        """
        raise InfieldError("a field seen through a window does not say what the torus around it looks like")


def seen_shape(event_shape: tuple[int, ...], standardisation: Standardisation) -> tuple[int, ...]:
    """Shape `(channel, *space)` of the fields that a prior is for, from that of its standardised fields."""
    if isinstance(standardisation, WindowedStandardisation):
        return (event_shape[0], *standardisation.window.shape)
    return event_shape
