"""A measurement of a field as one of its innovations: x = S xi for what samplers draw."""

from __future__ import annotations

import dataclasses
from typing import Protocol

from torch import Tensor

from infield.core.grid import Grid
from infield.physics.measurement import Measurement
from infield.physics.operators.base import LinearOperator
from infield.physics.operators.composition import compose


class Innovations(Protocol):
    """S, a linear map from white noise to standardised fields, `(batch, channel, *space)` both."""

    def colour(self, xi: Tensor, /) -> Tensor:
        """S xi."""
        ...

    def transpose(self, x: Tensor, /) -> Tensor:
        """S^T x."""
        ...


class Colour(LinearOperator):
    """S, from innovations to standardised fields.

    Arguments:
        grid: Where both live, on a regular grid.
        channels: Number of channels.
        innovations: S.
    """

    name = "colour"

    def __init__(self, grid: Grid, channels: int, innovations: Innovations) -> None:
        super().__init__(grid, channels, (channels, *grid.shape), grid)
        self.innovations = innovations

    def A(self, x: Tensor) -> Tensor:
        return self.innovations.colour(x)

    def A_adjoint(self, y: Tensor) -> Tensor:
        return self.innovations.transpose(y)


def of_innovations(measurement: Measurement, innovations: Innovations) -> Measurement:
    """The same data as data of xi; with the same likelihood.

    Arguments:
        measurement: Of the field S xi.
        innovations: S.
    """
    assert isinstance(measurement.grid, Grid)
    colour = Colour(measurement.grid, len(measurement.channels), innovations)
    operator = compose(measurement.operator, colour)
    return dataclasses.replace(measurement, operator=operator, truth=None, description={}, arrays={})
