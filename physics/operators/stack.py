"""Several instruments that look at one field: their data one after the other."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from infield.core._deepinv import LinearPhysics, Physics
from infield.core.errors import InfieldError
from infield.core.grid import Grid, PointSet
from infield.physics.operators.base import ComplexBuffers, LinearOperator, index_grid, plain_physics
from infield.physics.operators.jacobian import jacobian_product


def parts_of(y: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """Stacked data `(batch, 1, n)`, or what belongs to each datum `(1, n)`, as the flat data of each part."""
    return list(y.squeeze(-2).split(list(sizes), -1))


class Stack(ComplexBuffers, Physics):
    """The data of several operators on the same field, flattened (last axis fastest), one behind the other.

    Arguments:
        operators: In the order of their data.
    """

    name: ClassVar[str] = "stack"
    observed: Tensor | None
    data_shape: tuple[int, ...]
    data_grid: Grid | PointSet
    operators: Any

    def __init__(self, operators: Sequence[Physics]) -> None:
        super().__init__(**plain_physics())
        self._join(operators)

    def _join(self, operators: Sequence[Physics]) -> None:
        first: Any = operators[0]
        self.operators = torch.nn.ModuleList(operators)
        self.grid, self.channels = first.grid, first.channels
        self.sizes = tuple(math.prod(operator.data_shape) for operator in operators)
        self.data_shape = (1, sum(self.sizes))
        self.data_grid = index_grid(self.data_shape[1:])
        self.register_buffer("observed", stacked_observed(operators))

    def extra_repr(self) -> str:
        return ", ".join(map(repr, self.operators))

    def _parts(self, y: Tensor) -> list[Tensor]:
        pairs = zip(parts_of(y, self.sizes), self.operators, strict=True)
        return [part.reshape(len(y), *operator.data_shape) for part, operator in pairs]

    def A(self, x: Tensor) -> Tensor:
        return torch.cat([operator.A(x).flatten(1) for operator in self.operators], 1)[:, None]

    def A_vjp(self, x: Tensor, v: Tensor) -> Tensor:
        """The transposed Jacobian at `x` applied to `v`: the sum over the parts."""
        pairs = zip(self.operators, self._parts(v), strict=True)
        return torch.stack([operator.A_vjp(x, part) for operator, part in pairs]).sum(0)

    def A_jvp(self, x: Tensor, v: Tensor) -> Tensor:
        """The Jacobian at `x` applied to `v`."""
        return torch.cat([jacobian_product(operator, x, v).flatten(1) for operator in self.operators], 1)[:, None]


class LinearStack(Stack, LinearOperator):
    """A stack of linear operators."""

    def __init__(self, operators: Sequence[LinearPhysics]) -> None:
        first: Any = operators[0]
        LinearPhysics.__init__(self, img_size=(first.channels, *first.grid.shape), **plain_physics())
        self._join(operators)

    def A_adjoint(self, y: Tensor) -> Tensor:
        pairs = zip(self.operators, self._parts(y), strict=True)
        return torch.stack([operator.A_adjoint(part) for operator, part in pairs]).sum(0)

    def A_vjp(self, x: Tensor, v: Tensor) -> Tensor:
        return self.A_adjoint(v)


def stacked_observed(operators: Sequence[Any]) -> Tensor | None:
    """Which of the stacked data are measured, `(1, n)`; None where all of every part are."""
    masks = [operator.observed for operator in operators]
    if all(mask is None for mask in masks):
        return None
    whole = [
        torch.ones(operator.data_shape, dtype=torch.bool) if mask is None else mask
        for mask, operator in zip(masks, operators, strict=True)
    ]
    return torch.cat([mask.flatten() for mask in whole])[None]


def stack(*operators: Any) -> Stack:
    """Stack operators on one field; the result is a `LinearPhysics` if all of them are.

    Raises:
        InfieldError: Their fields differ, or data are complex tensors.
    """
    fields = {(operator.channels, tuple(operator.grid.shape)) for operator in operators}
    if len(fields) > 1:
        raise InfieldError(
            where="operator 'stack'", found=f"operators on fields {sorted(fields)}", expected="one field"
        )
    linear = all(isinstance(operator, LinearPhysics) for operator in operators)
    return LinearStack(operators) if linear else Stack(operators)
