r"""Links: pointwise functions from a field of any sign to a quantity that is positive, as generalised linear models
have them (McCullagh & Nelder 1989, chapter 2).

A rate, a permeability or a concentration is above zero, and no Gaussian field is. Its logarithm, or the inverse of
softplus of it, may be one: the field that is sought is the latent one, and the operator begins with the link,

    {"name": "compose", "operators": [{"name": "mask", ...}, {"name": "affine", ...}, {"name": "exp"}]},

the `affine` between holding the exposure of counts; where that is one number, it may be the parameter `scale` of `exp`.
`exp` makes effects products (log-normal fields); `softplus` is nearly linear where the quantity is large and, unlike
exp, has a bounded slope; `bounded` is for what has two ends.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from infield.core import transform
from infield.core._deepinv import Physics
from infield.core.grid import Grid, PointSet
from infield.physics.operators.base import plain_physics
from infield.physics.operators.composition import Scale, compose
from infield.physics.operators.description import OperatorDescription


class Link(Physics):
    """A function of every value by itself.

    Arguments:
        grid: Domain of the field.
        channels: Number of channels.
        function: A transform of `core.transform`.
    """

    name: ClassVar[str]
    observed: Tensor | None

    def __init__(self, grid: Grid | PointSet, channels: int, function: transform.Pointwise) -> None:
        super().__init__(**plain_physics())
        self.function = function
        self.grid = self.data_grid = grid
        self.channels = channels
        self.data_shape = (channels, *grid.shape)
        self.register_buffer("observed", None)

    def A(self, x: Tensor) -> Tensor:
        """The function of every value, shape of `x`."""
        return self.function.forward(x)

    def slope(self, x: Tensor) -> Tensor:
        """Its derivative at every value, above zero, shape of `x`."""
        return self.function.slope(x)

    def inverse(self, z: Tensor) -> Tensor:
        """The values whose function is z, shape of `z`."""
        return self.function.inverse(z)

    def A_vjp(self, x: Tensor, v: Tensor) -> Tensor:
        """The (diagonal) derivative at `x` applied to `v`."""
        return self.slope(x) * v

    def A_jvp(self, x: Tensor, v: Tensor) -> Tensor:
        """The same: a diagonal is its own transpose."""
        return self.slope(x) * v


class Exponential(Link):
    """exp(x)."""

    name = transform.Exponential.name

    def __init__(self, grid: Grid | PointSet, channels: int) -> None:
        super().__init__(grid, channels, transform.Exponential())


class Softplus(Link):
    """log(1 + exp(x))."""

    name = transform.Softplus.name

    def __init__(self, grid: Grid | PointSet, channels: int) -> None:
        super().__init__(grid, channels, transform.Softplus())


class Bounded(Link):
    """low + (high - low) / (1 + exp(-x))."""

    name = transform.Bounded.name

    def __init__(self, grid: Grid | PointSet, channels: int, low: float, high: float) -> None:
        super().__init__(grid, channels, transform.Bounded(low, high))


def build_exponential(description: OperatorDescription) -> Physics:
    """The operator `exp`: parameter `scale`, a factor above zero, 1 where not given."""
    description.expect(parameters=("scale",))
    grid, channels = description.grid, description.channels
    link = Exponential(grid, channels)
    if "scale" not in description.parameters:
        return link
    scale = description.positive("scale", description.parameters["scale"])
    return compose(Scale(grid, channels, torch.full((channels, *(1,) * len(grid.shape)), scale).double()), link)


def build_softplus(description: OperatorDescription) -> Softplus:
    description.expect()
    return Softplus(description.grid, description.channels)


def build_bounded(description: OperatorDescription) -> Bounded:
    """The operator `bounded`: parameters `low` and `high`, the ends of the interval, 0 and 1 where not given."""
    description.expect(parameters=("low", "high"))
    ends = {"low": 0.0, "high": 1.0} | dict(description.parameters)
    for name, value in ends.items():
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise description.error(found=f"{name} {value!r}", expected="a number")
    return Bounded(description.grid, description.channels, float(ends["low"]), float(ends["high"]))
