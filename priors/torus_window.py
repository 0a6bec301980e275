"""A prior on a torus restricted to a window: the domain is its first points along each axis."""

from __future__ import annotations

from dataclasses import dataclass

from infield.core.transform import Affine, Chain, Window
from infield.priors.base import ChainedStandardisation, Standardisation


@dataclass(frozen=True)
class WindowedStandardisation(ChainedStandardisation):
    """Field in units on the domain = shift + scale * what the window shows of a standardised field on the torus.

    A prior with this standardisation is a prior of fields on the torus to itself, and of fields on the domain to
    others: its draws come out on the domain, and a measurement that is pulled back by it shows its fields to the
    operator through the window. It has no inverse: many fields on the torus look the same through the window.

    Arguments:
        window: Visible part of the torus.
    """

    window: Window

    @property
    def chain(self) -> Chain:
        return Chain((Affine(self.shift, self.scale), self.window))


def visible_shape(event_shape: tuple[int, ...], standardisation: Standardisation) -> tuple[int, ...]:
    """Old name of `standardisation.output_shape(event_shape)`."""
    return standardisation.output_shape(event_shape)
