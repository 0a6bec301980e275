"""From an sRGB-coded picture to the camera light that displays it: pointwise, with an exposure."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from infield.core._deepinv import Physics
from infield.core.checks import is_number
from infield.core.grid import Grid, PointSet
from infield.physics.operators.base import plain_physics
from infield.physics.operators.description import OperatorDescription
from infield.physics.projection_mapping.colour import decode, decode_slope


class Display(Physics):
    """exposure T^-1 decode(x) of each pixel, T from camera channels to linear sRGB.

    Arguments:
        grid: Of the picture; it has three channels, red, green and blue, between 0 and 1.
        exposure: Camera light of white.
        to_srgb: T, 3 x 3; the identity by default.
    """

    name: ClassVar[str] = "display"
    matrix: Tensor
    observed: Tensor | None

    def __init__(self, grid: Grid | PointSet, exposure: float, to_srgb: Tensor | None = None) -> None:
        super().__init__(**plain_physics())
        self.grid = self.data_grid = grid
        self.channels, self.data_shape = 3, (3, *grid.shape)
        T = torch.eye(3, dtype=torch.float64) if to_srgb is None else to_srgb.double()
        self.register_buffer("matrix", exposure * torch.linalg.inv(T))
        self.register_buffer("observed", None)

    def A(self, x: Tensor) -> Tensor:
        return torch.einsum("ij,bj...->bi...", self.matrix.to(x.dtype), decode(x))

    def A_vjp(self, x: Tensor, v: Tensor) -> Tensor:
        """The transposed Jacobian at `x` applied to `v`."""
        return decode_slope(x) * torch.einsum("ij,bi...->bj...", self.matrix.to(x.dtype), v)

    def A_jvp(self, x: Tensor, v: Tensor) -> Tensor:
        """The Jacobian at `x` applied to `v`."""
        return torch.einsum("ij,bj...->bi...", self.matrix.to(x.dtype), decode_slope(x) * v)


def build_display(description: OperatorDescription) -> Display:
    """The operator `display`: parameters `exposure` (1) and `to_srgb`, rows of a 3 x 3 matrix.

    Raises:
        InfieldError: The picture has not three channels, or a parameter is not possible.
    """
    description.expect(("exposure", "to_srgb"))
    if description.channels != 3:
        raise description.error(found=f"{description.channels} channels", expected="red, green and blue")
    exposure = description.positive("exposure", description.parameters.get("exposure", 1.0))
    rows = description.parameters.get("to_srgb", [[1, 0, 0], [0, 1, 0], [0, 0, 1]])
    square = isinstance(rows, list) and len(rows) == 3 and all(isinstance(r, list) and len(r) == 3 for r in rows)
    if not square or not all(is_number(v) for r in rows for v in r) or abs(np.linalg.det(np.array(rows, float))) < 1e-6:
        raise description.error(found=f"to_srgb {rows!r}", expected="an invertible 3 x 3 matrix")
    return Display(description.grid, exposure, torch.tensor(rows, dtype=torch.float64))
