"""A domain as part of a larger torus, and the operator that looks at it."""

from __future__ import annotations

import torch
from torch import Tensor

from infield.core.grid import Axis, Grid
from infield.physics.operators.base import LinearOperator
from infield.physics.operators.description import OperatorDescription


class Crop(LinearOperator):
    """The first points along each axis of a field on a torus.

    Arguments:
        torus: Grid of the field.
        domain: Part of it that is observed.
        channels: Number of channels.
    """

    name = "window"

    def __init__(self, torus: Grid, domain: Grid, channels: int) -> None:
        super().__init__(torus, channels, (channels, *domain.shape), domain)
        self._shape = domain.shape

    def A(self, x: Tensor) -> Tensor:
        for axis, n in zip(range(-len(self._shape), 0), self._shape, strict=True):
            x = x.narrow(axis, 0, n)
        return x

    def A_adjoint(self, y: Tensor) -> Tensor:
        widths = [(0, m - n) for n, m in zip(self._shape, self.grid.shape, strict=True)]
        return torch.nn.functional.pad(y, [width for pair in reversed(widths) for width in pair])


def build_window(description: OperatorDescription) -> Crop:
    """The operator `window`: parameters `shape`, the points of the domain along each axis, and `periodic`, whether each
    axis of the domain is periodic (by default none is); the field is defined on the torus.

    Raises:
        InfieldError: If the field is given on scattered points, or the domain is no part of the torus.
    """
    description.expect(parameters=("shape", "periodic"))
    torus, given = description.regular_grid(), description.parameters
    shape = given.get("shape")
    whole = isinstance(shape, list | tuple) and len(shape) == torus.ndim and all(type(n) is int for n in shape)
    if not whole or any(not 1 <= n <= m for n, m in zip(shape, torus.shape, strict=True)):  # type: ignore[arg-type]
        raise description.error(found=f"shape {shape!r}", expected=f"whole numbers from 1 to those of {torus.shape}")
    periodic = given.get("periodic", [False] * torus.ndim)
    if not isinstance(periodic, list | tuple) or [type(value) for value in periodic] != [bool] * torus.ndim:
        raise description.error(found=f"periodic {periodic!r}", expected=f"{torus.ndim} of true and false")
    axes = zip(torus.axes, shape, periodic, strict=True)  # type: ignore[arg-type]
    domain = Grid(
        tuple(Axis(axis.name, axis.coordinates[:n], axis.units, is_periodic) for axis, n, is_periodic in axes)
    )
    return Crop(torus, domain, description.channels)


def torus_around(grid: Grid, shape: tuple[int, ...]) -> Grid:
    """The grid continued along each axis to more points, every axis periodic."""

    def longer(axis: Axis, n: int) -> Axis:
        beyond = (axis.coordinates[-1] + axis.spacing * i for i in range(1, n - axis.size + 1))
        return Axis(axis.name, (*axis.coordinates, *beyond), axis.units, periodic=True)

    return Grid(tuple(longer(axis, n) for axis, n in zip(grid.axes, shape, strict=True)))
