"""Base of the linear forward operators: deepinv's `LinearPhysics` with the grids of field and data."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor

from infield.core._deepinv import ZeroNoise
from infield.core.grid import Axis, Grid, PointSet
from infield.physics.operators.least_squares import LeastSquaresMixin


class ComplexBuffers(torch.nn.Module):
    """Keeps complex buffers complex: torch's own `.to(torch.float32)` drops their imaginary part."""

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.extra_repr()})"

    def extra_repr(self) -> str:
        shape, data = (getattr(self, "channels", "?"), *getattr(getattr(self, "grid", None), "shape", ())), "?"
        return f"{shape} -> {getattr(self, 'data_shape', data)}"

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Any:
        def complex_safe(tensor: Tensor) -> Tensor:
            if tensor.is_complex():
                return torch.view_as_complex(fn(torch.view_as_real(tensor.resolve_conj())).contiguous())
            return fn(tensor)

        return super()._apply(complex_safe, recurse)


def plain_physics() -> dict[str, Any]:
    """Constructor arguments of deepinv's physics that replace its default lambdas, which cannot be pickled."""
    noise = ZeroNoise()
    noise.noise_model = torch.nn.Identity()
    return {"A": None, "noise_model": noise, "sensor_model": torch.nn.Identity()}


def index_grid(shape: tuple[int, ...]) -> Grid:
    """A grid of indices, for data whose axes carry no coordinates."""
    return Grid(tuple(Axis(f"index_{i}", tuple(float(j) for j in range(n))) for i, n in enumerate(shape)))


class LinearOperator(ComplexBuffers, LeastSquaresMixin):
    """A linear map from fields `(batch, channel, *space)` to data `(batch, *data)`.

    Arguments:
        grid: Grid of the field.
        channels: Number of channels of the field.
        data_shape: Shape of the data, without the batch.
        data_grid: Grid of the data after their first axis; by default a grid of indices.
        observed: Bool, shape `data_shape`: which entries of the data are measured. None where all are.
    """

    name: ClassVar[str]
    observed: Tensor | None

    def __init__(
        self,
        grid: Grid | PointSet,
        channels: int,
        data_shape: tuple[int, ...],
        data_grid: Grid | PointSet | None = None,
        observed: Tensor | None = None,
    ) -> None:
        super().__init__(img_size=(channels, *grid.shape), **plain_physics())
        self.grid = grid
        self.channels = channels
        self.data_shape = tuple(data_shape)
        self.data_grid = data_grid or index_grid(self.data_shape[1:])
        self.register_buffer("observed", observed)

    def A(self, x: Tensor) -> Tensor:
        """The noiseless data of a field."""
        raise NotImplementedError

    def A_adjoint(self, y: Tensor) -> Tensor:
        """The exact adjoint of `A` under the real inner products of fields and data."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        return f"{(self.channels, *self.grid.shape)} -> {self.data_shape}, {math.prod(self.data_shape)} data"
