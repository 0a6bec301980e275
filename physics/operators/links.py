r"""Links: pointwise functions from a field of any sign to a quantity that is positive, as generalised linear models
have them (McCullagh & Nelder 1989, chapter 2).

A rate, a permeability or a concentration is above zero, and no Gaussian field is. Its logarithm, or the inverse of
softplus of it, may be one: the field that is sought is the latent one, and the operator begins with the link,

    {"name": "compose", "operators": [{"name": "mask", ...}, {"name": "affine", ...}, {"name": "exp"}]},

the `affine` between holding the exposure of counts. `exp` makes effects products (log-normal fields); `softplus` is
nearly linear where the quantity is large and, unlike exp, has a bounded slope.
"""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from infield.core._deepinv import Physics
from infield.core.grid import Grid, PointSet
from infield.physics.operators.base import plain_physics
from infield.physics.operators.description import OperatorDescription


class Link(Physics):
    """A function of every value by itself.

    Arguments:
        grid: Where the field lives.
        channels: Number of channels.
    """

    name: ClassVar[str]
    observed: Tensor | None

    def __init__(self, grid: Grid | PointSet, channels: int) -> None:
        super().__init__(**plain_physics())
        self.grid = self.data_grid = grid
        self.channels = channels
        self.data_shape = (channels, *grid.shape)
        self.register_buffer("observed", None)

    def A(self, x: Tensor) -> Tensor:
        """The function of every value, shape of `x`."""
        raise NotImplementedError

    def slope(self, x: Tensor) -> Tensor:
        """Its derivative at every value, above zero, shape of `x`."""
        raise NotImplementedError

    def inverse(self, z: Tensor) -> Tensor:
        """The values whose function is z > 0, shape of `z`."""
        raise NotImplementedError

    def A_vjp(self, x: Tensor, v: Tensor) -> Tensor:
        """The (diagonal) derivative at `x` applied to `v`."""
        return self.slope(x) * v

    def A_jvp(self, x: Tensor, v: Tensor) -> Tensor:
        """The same: a diagonal is its own transpose."""
        return self.slope(x) * v


class Exponential(Link):
    """exp(x)."""

    name = "exp"

    def A(self, x: Tensor) -> Tensor:
        return x.exp()

    def slope(self, x: Tensor) -> Tensor:
        return x.exp()

    def inverse(self, z: Tensor) -> Tensor:
        return z.log()


class Softplus(Link):
    """log(1 + exp(x)), without overflow and, at large -x, without loss of digits."""

    name = "softplus"

    def A(self, x: Tensor) -> Tensor:
        return torch.logaddexp(x, torch.zeros_like(x))

    def slope(self, x: Tensor) -> Tensor:
        return torch.sigmoid(x)

    def inverse(self, z: Tensor) -> Tensor:
        return z + torch.log(-torch.expm1(-z))


def build_exponential(description: OperatorDescription) -> Exponential:
    description.expect()
    return Exponential(description.grid, description.channels)


def build_softplus(description: OperatorDescription) -> Softplus:
    description.expect()
    return Softplus(description.grid, description.channels)
