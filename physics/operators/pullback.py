"""Transforms as the innermost operator of a measurement."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import singledispatch
from typing import Any

from torch import Tensor

from infield.core._deepinv import Physics
from infield.core.errors import InfieldError
from infield.core.grid import Grid, PointSet
from infield.core.transform import Affine, Pointwise, Root, Transform, Whitening, Window
from infield.physics.operators import composition
from infield.physics.operators.base import LinearOperator
from infield.physics.operators.crop import Crop, torus_around
from infield.physics.operators.registry import build_operator


@dataclass(frozen=True)
class Inner:
    """A transform as an operator.

    Arguments:
        operator: From fields z to x = T(z).
        grid: Domain of z.
        description: As `build_operator` reads it, with the roles of its arrays; None where no file can hold it.
        arrays: By role.
    """

    operator: Physics
    grid: Grid | PointSet
    description: dict[str, Any] | None
    arrays: dict[str, Tensor] = field(default_factory=dict)


class Colour(LinearOperator):
    """S, from white noise to correlated fields.

    Arguments:
        grid: Domain of both, a regular grid.
        channels: Number of channels.
        root: S.
    """

    name = "colour"

    def __init__(self, grid: Grid, channels: int, root: Root) -> None:
        super().__init__(grid, channels, (channels, *grid.shape), grid)
        self.root = root

    def A(self, x: Tensor) -> Tensor:
        return self.root.colour(x)

    def A_adjoint(self, y: Tensor) -> Tensor:
        return self.root.transpose(y)


def scaling(part: Affine, grid: Grid | PointSet, channels: int, like: Tensor) -> Inner:
    """The linear part of an affine transform, as `inner_operator`."""
    scale = part.scale.to(like)
    return Inner(composition.Scale(grid, channels, scale), grid, {"name": "affine"}, {"scale": scale})


@singledispatch
def inner_operator(part: Transform, grid: Grid | PointSet, channels: int, like: Tensor) -> Inner:
    """A transform that has no parts, as an operator.

    Arguments:
        part: The transform.
        grid: Domain of x = T(z).
        channels: Of x.
        like: Numbers of the operator become of its precision and device.

    Raises:
        InfieldError: It is of an unknown kind, or not for such a grid.
    """
    raise InfieldError(where="pullback", found=type(part).__name__, expected="a transform of `core.transform`")


@inner_operator.register
def _(part: Affine, grid: Grid | PointSet, channels: int, like: Tensor) -> Inner:
    shift, scale = part.shift.to(like), part.scale.to(like)
    arrays = {"scale": scale, "shift": shift}
    return Inner(composition.Affine(grid, channels, scale, shift), grid, {"name": "affine"}, arrays)


@inner_operator.register
def _(part: Window, grid: Grid | PointSet, channels: int, like: Tensor) -> Inner:
    if not isinstance(grid, Grid):
        raise InfieldError(found="a prior on a torus for a field on scattered points", expected="one on a grid")
    torus = torus_around(grid, part.torus)
    seen = {"shape": list(grid.shape), "periodic": [axis.periodic for axis in grid.axes]}
    return Inner(Crop(torus, grid, channels), torus, {"name": Crop.name, "parameters": seen})


@inner_operator.register
def _(part: Whitening, grid: Grid | PointSet, channels: int, like: Tensor) -> Inner:
    if not isinstance(grid, Grid):
        raise InfieldError(found="a prior of white noise for a field on scattered points", expected="one on a grid")
    return Inner(Colour(grid, channels, part.root), grid, None)


@inner_operator.register
def _(part: Pointwise, grid: Grid | PointSet, channels: int, like: Tensor) -> Inner:
    description = {"name": part.name, "parameters": part.parameters()}
    return Inner(build_operator(description, {}, grid, channels), grid, description)


def of_innovations(measurement: Any, innovations: Root) -> Any:
    """Old name of `measurement.pullback(Whitening(innovations))`."""
    return measurement.pullback(Whitening(innovations))


def through_window(measurement: Any, shape: tuple[int, ...]) -> Any:
    """Old name of `measurement.pullback(Window(domain, torus))`."""
    return measurement.pullback(Window(measurement.grid.shape, shape))


def standardised(measurement: Any, units: Transform) -> Any:
    """Old name of `measurement.pullback(transform)`."""
    return measurement.pullback(units)
