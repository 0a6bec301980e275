r"""Two-phase fields by their level-set function, whose sign indicates the phase.

A two-phase field jumps, so that no Gaussian distribution is close to its own. The signed distance to the interface is a
continuous function that determines the field and is determined by it (Osher & Sethian 1988; for inverse problems
Iglesias, Lu & Stuart 2016, "A Bayesian level set method for geometric inverse problems", arXiv 1504.00313). So the
prior is learned for the distance, and the operator starts with the map from distance to field.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from infield.core._deepinv import Physics
from infield.core.checks import is_number
from infield.core.errors import InfieldError
from infield.core.grid import Grid
from infield.physics.operators.base import plain_physics
from infield.physics.operators.description import OperatorDescription


class TwoPhaseLevelSet(Physics):
    r"""The two-phase field of a level-set function phi: :math:`low + (high - low) / (1 + e^{-\phi / width})`.

    The step is smooth and therefore differentiable; `sharp` gives the field with a sharp interface.

    Arguments:
        grid: Grid of the field.
        low: Value where phi is negative, e.g. the logarithm of a permeability.
        high: Value where it is positive.
        width: Width of the step, > 0, in the units of phi; for a distance about half a grid spacing.
    """

    name: ClassVar[str] = "phases"
    observed: Tensor | None

    def __init__(self, grid: Grid, low: float, high: float, width: float) -> None:
        super().__init__(**plain_physics())
        self.grid = self.data_grid = grid
        self.channels = 1
        self.data_shape = (1, *grid.shape)
        self.low, self.high, self.width = low, high, width
        self.register_buffer("observed", None)

    def A(self, x: Tensor) -> Tensor:
        return self.low + (self.high - self.low) * torch.sigmoid(x / self.width)

    def A_vjp(self, x: Tensor, v: Tensor) -> Tensor:
        """The (diagonal) derivative at `x` applied to `v`."""
        step = torch.sigmoid(x / self.width)
        return (self.high - self.low) / self.width * step * (1 - step) * v

    def A_jvp(self, x: Tensor, v: Tensor) -> Tensor:
        """The same: a diagonal is its own transpose."""
        return self.A_vjp(x, v)

    def sharp(self, x: Tensor) -> Tensor:
        """`high` where x is at least zero, `low` elsewhere; shape of x."""
        return torch.where(x >= 0, torch.full_like(x, self.high), torch.full_like(x, self.low))


def signed_distance(high: Tensor, grid: Grid) -> Tensor:
    """Distance of every point to the interface, positive in the phase `high`, in the units of the grid's coordinates.

    The interface lies midway between neighbours of different phases. A field of one phase has none: its points are as
    far from it as the domain is wide.

    Arguments:
        high: Bool, where the phase of the high value is, shape `(batch, *space)`.
        grid: Uniform along its axes, none of them periodic.

    Returns:
        Shape of `high`, float64.
    """
    if any(axis.periodic or not axis.uniform for axis in grid.axes):
        raise InfieldError(
            where="signed distance", found="a periodic or an uneven grid", expected="an open uniform one"
        )
    half, widest = min(grid.spacing) / 2, math.hypot(*grid.lengths)

    def distance(inside: np.ndarray) -> np.ndarray:
        """To the nearest point outside, less half a spacing; zero outside."""
        if inside.all():
            return np.full(inside.shape, widest)
        return np.where(inside, ndimage.distance_transform_edt(inside, sampling=grid.spacing) - half, 0.0)

    fields = [distance(field) - distance(~field) for field in high.numpy(force=True)]
    return torch.from_numpy(np.stack(fields)).to(high.device)


def build_phases(description: OperatorDescription) -> TwoPhaseLevelSet:
    description.expect(parameters=("low", "high", "width"))
    if description.channels != 1:
        raise description.error(found=f"{description.channels} channels", expected="1")
    levels: list[float] = []
    for name in ("low", "high"):
        value = description.parameters.get(name)
        if not is_number(value):
            raise description.error(found=f"{name} {value!r}", expected="a finite number")
        levels.append(float(value))
    low, high = levels
    width = description.positive("width", description.parameters.get("width"))
    return TwoPhaseLevelSet(description.regular_grid(), low, high, width)
