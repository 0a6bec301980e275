r"""What a picture is asked to follow: gradients along those of a surface, and its low pass. Linear operators.

*Across edges.* With xi = grad S / sqrt(|grad S|^2 + eta^2) of an image S of the surface,

    A x = (1 - xi xi^T) grad x,    of each channel,

forward differences, zero beyond the last row and column. It is small where the picture changes only where S does, and
along the same direction: the quadratic structural prior of Kaipio, Kolehmainen, Vauhkonen & Somersalo 1999 ("Inverse
problems with structural prior information") with the vector field of directional total variation (Ehrhardt & Betcke
2016, "Multi-contrast MRI reconstruction with structure-guided total variation").

*On edges.* The derivative of the luma L x along xi,

    A x = xi . grad L x,

which weighs flat parts of the surface by little: data xi . grad S ask for the surface's own steps where it has any, and
of everything else nothing.

*Low pass.* Means over blocks, a coarse picture of B_y by B_x; for shading, of the luma alone and less its own mean.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from infield.core.grid import Grid
from infield.physics.operators.base import LinearOperator
from infield.physics.operators.description import OperatorDescription

LUMA = (0.2126, 0.7152, 0.0722)
"""Weights of red, green and blue in the luma of a coded picture (ITU-R BT.709)."""

ETA_QUANTILE = 0.8
"""eta is this quantile of |grad S|: an edge is what is steeper than most of the surface."""


class AcrossEdges(LinearOperator):
    """The part of the picture's gradient that the surface's edges do not have.

    Arguments:
        grid: Of the picture, axes y and x.
        channels: Of the picture.
        direction: xi, shape `(2, y, x)`, at most 1 long.
    """

    name: ClassVar[str] = "across-edges"
    direction: Tensor

    def __init__(self, grid: Grid, channels: int, direction: Tensor) -> None:
        super().__init__(grid, channels, (2 * channels, *grid.shape), grid)
        self.register_buffer("direction", direction.double())

    def A(self, x: Tensor) -> Tensor:
        return self._project(torch.stack([_forward(x, 2), _forward(x, 3)], 1)).flatten(1, 2)

    def A_adjoint(self, y: Tensor) -> Tensor:
        g = self._project(y.reshape(len(y), 2, self.channels, *self.grid.shape))
        return _backward(g[:, 0], 2) + _backward(g[:, 1], 3)

    def _project(self, g: Tensor) -> Tensor:
        """(1 - xi xi^T) g, shape `(batch, 2, channel, y, x)`; symmetric."""
        xi = self.direction.to(g)[:, None]
        return g - xi * (xi * g).sum(1, keepdim=True)


class EdgeGradient(LinearOperator):
    """The derivative of a picture's luma across the surface's edges.

    Arguments:
        grid: Of the picture, axes y and x; it has three channels.
        direction: xi, shape `(2, y, x)`, at most 1 long.
    """

    name: ClassVar[str] = "edge-gradient"
    direction: Tensor

    def __init__(self, grid: Grid, direction: Tensor) -> None:
        super().__init__(grid, 3, (1, *grid.shape), grid)
        self.register_buffer("direction", direction.double())

    def A(self, x: Tensor) -> Tensor:
        luma = torch.einsum("c,bcyx->byx", x.new_tensor(LUMA), x)[:, None]
        down, right = self.direction.to(x)
        return down * _forward(luma, 2) + right * _forward(luma, 3)

    def A_adjoint(self, y: Tensor) -> Tensor:
        down, right = self.direction.to(y)
        luma = _backward(down * y, 2) + _backward(right * y, 3)
        return y.new_tensor(LUMA)[:, None, None] * luma


class LowPass(LinearOperator):
    """Means over blocks of the picture.

    Arguments:
        grid: Of the picture, axes y and x.
        channels: Of the picture.
        blocks: Their number along y and x.
        luma: Whether of the luma less its mean over all blocks, one channel; of all channels else.
    """

    name: ClassVar[str] = "low-pass"
    down: Tensor
    across: Tensor

    def __init__(self, grid: Grid, channels: int, blocks: tuple[int, int], luma: bool = False) -> None:
        super().__init__(grid, channels, (1 if luma else channels, *blocks))
        self.luma = luma
        for name, size, count in zip(("down", "across"), grid.shape, blocks, strict=True):
            self.register_buffer(name, torch.from_numpy(block_means(size, count)))

    def A(self, x: Tensor) -> Tensor:
        if self.luma:
            x = torch.einsum("c,bcyx->byx", x.new_tensor(LUMA), x)[:, None]
        y = self.down.to(x) @ x @ self.across.to(x).mT
        return y - y.mean((-2, -1), keepdim=True) if self.luma else y

    def A_adjoint(self, y: Tensor) -> Tensor:
        if not self.luma:
            return self.down.to(y).mT @ y @ self.across.to(y)
        x = self.down.to(y).mT @ (y - y.mean((-2, -1), keepdim=True)) @ self.across.to(y)
        return y.new_tensor(LUMA)[:, None, None] * x


def block_means(size: int, count: int) -> np.ndarray:
    """A matrix `(count, size)` of means over blocks of equal length; pixels that two blocks share count in parts."""
    edges = np.linspace(0, size, count + 1)
    pixel = np.arange(size)
    overlap = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    return np.asarray(np.clip(overlap, 0, None) * count / size)


def edges_of(surface: np.ndarray, covered: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """xi of an image of the surface, shape `(2, y, x)`, and xi . grad S, shape `(y, x)`; 0 where it is not covered.

    Arguments:
        surface: S, shape `(y, x)`; it is smoothed by a Gaussian of 0.7 pixels against the camera's noise.
        covered: Where it is known.
    """
    weight = ndimage.gaussian_filter(covered.astype(float), 0.7)
    smooth = ndimage.gaussian_filter(np.where(covered, surface, 0.0), 0.7) / np.maximum(weight, 1e-6)
    g = np.stack([np.diff(smooth, axis=axis, append=smooth.take([-1], axis)) for axis in (0, 1)])
    inside = covered.copy()
    inside[:-1] &= covered[1:]
    inside[:, :-1] &= covered[:, 1:]
    length = np.hypot(*g)
    eta = max(float(np.quantile(length[inside], ETA_QUANTILE)), 1e-6) if inside.any() else 1.0
    xi = np.where(inside, g / np.sqrt(length**2 + eta**2), 0.0)
    return xi, (xi * g).sum(0)


def shading(points: np.ndarray, light: tuple[float, float, float] = (-1.0, -1.0, -2.0)) -> np.ndarray:
    """max(n . l, 0) of a surface lit from above and the left, as from behind the camera, shape `(y, x)`.

    Arguments:
        points: Positions in the camera's frame (x to the right, y down, z away), shape `(3, y, x)`.
        light: Direction towards the light, in that frame.
    """
    down, right = np.gradient(points, axis=1), np.gradient(points, axis=2)
    normal = np.cross(down, right, axis=0)  # towards the camera
    normal = normal / np.maximum(np.linalg.norm(normal, axis=0), 1e-30)
    towards = np.array(light) / np.linalg.norm(light)
    return np.asarray(np.clip(np.einsum("i,iyx->yx", towards, normal), 0, None))


def _forward(x: Tensor, axis: int) -> Tensor:
    """Forward differences along an axis, 0 at its end."""
    return torch.diff(x, dim=axis, append=x.narrow(axis, x.shape[axis] - 1, 1))


def _backward(g: Tensor, axis: int) -> Tensor:
    """The transpose of `_forward`."""
    inner = g.narrow(axis, 0, g.shape[axis] - 1)
    none = torch.zeros_like(g.narrow(axis, 0, 1))
    return torch.cat([none, inner], axis) - torch.cat([inner, none], axis)


def build_across_edges(description: OperatorDescription) -> AcrossEdges:
    """The operator `across-edges`: array `direction`, shape `(2, y, x)`.

    Raises:
        InfieldError: The field is no image, or the array does not fit.
    """
    grid, direction = _direction(description)
    return AcrossEdges(grid, description.channels, direction)


def build_edge_gradient(description: OperatorDescription) -> EdgeGradient:
    """The operator `edge-gradient`: array `direction`, shape `(2, y, x)`.

    Raises:
        InfieldError: The field is no image of three channels, or the array does not fit.
    """
    if description.channels != 3:
        raise description.error(found=f"{description.channels} channels", expected="red, green, blue")
    return EdgeGradient(*_direction(description))


def _direction(description: OperatorDescription) -> tuple[Grid, Tensor]:
    description.expect(arrays=("direction",))
    grid = _image(description)
    direction = description.array("direction", (2, *grid.shape))
    if np.hypot(*direction).max() > 1 + 1e-6:
        raise description.error(found="a direction longer than 1", expected="grad S / sqrt(|grad S|² + eta²)")
    return grid, torch.from_numpy(np.array(direction, np.float64))


def build_low_pass(description: OperatorDescription) -> LowPass:
    """The operator `low-pass`: parameters `blocks`, two numbers, and `luma` (false).

    Raises:
        InfieldError: The field is no image, or a parameter is not possible.
    """
    description.expect(("blocks", "luma"))
    grid, blocks = _image(description), description.parameters.get("blocks")
    luma = description.parameters.get("luma", False)
    if (
        not isinstance(blocks, list | tuple)
        or len(blocks) != 2
        or not all(type(k) is int and 1 <= k <= n for k, n in zip(blocks, grid.shape, strict=True))
    ):
        raise description.error(found=f"blocks {blocks!r}", expected=f"two numbers from 1 to {grid.shape}")
    if not isinstance(luma, bool) or (luma and description.channels != 3):
        raise description.error(found=f"luma {luma!r} of {description.channels} channels", expected="red, green, blue")
    return LowPass(grid, description.channels, (int(blocks[0]), int(blocks[1])), luma)


def _image(description: OperatorDescription) -> Grid:
    grid = description.regular_grid()
    if grid.ndim != 2:
        raise description.error(found=f"a field of {grid.ndim} axes", expected="an image, axes y and x")
    return grid
