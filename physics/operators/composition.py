"""Composition and linear combination of operators, and the affine change of units of a field."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from infield.core._deepinv import LinearPhysics, Physics
from infield.core.checks import is_number
from infield.core.errors import InfieldError
from infield.core.grid import Grid, PointSet
from infield.physics.operators.base import ComplexBuffers, LinearOperator, plain_physics
from infield.physics.operators.description import OperatorDescription
from infield.physics.operators.jacobian import jacobian_product
from infield.physics.operators.least_squares import LeastSquaresMixin


class Composition(ComplexBuffers, Physics):
    """The composition `A = A_1 A_2 ... A_n`, linear if all of its operators are (see `compose`).

    Arguments:
        operators: Operators, outermost first.
    """

    name: ClassVar[str] = "compose"
    observed: Tensor | None
    operators: Any  # a ModuleList, whose members torch types as bare modules

    def __init__(self, operators: Sequence[Physics]) -> None:
        super().__init__(**plain_physics())
        self._join(operators)

    def _join(self, operators: Sequence[Physics]) -> None:
        self.operators = torch.nn.ModuleList(operators)
        outer, inner = operators[0], operators[-1]
        for attribute, operator in (("grid", inner), ("channels", inner), ("data_shape", outer), ("data_grid", outer)):
            setattr(self, attribute, getattr(operator, attribute, None))
        self.register_buffer("observed", getattr(outer, "observed", None))

    def extra_repr(self) -> str:
        return ", ".join(map(repr, self.operators))

    def A(self, x: Tensor) -> Tensor:
        for operator in reversed(self.operators):
            x = operator.A(x)
        return x

    def A_vjp(self, x: Tensor, v: Tensor) -> Tensor:
        """The transposed Jacobian at `x` applied to `v`, by the chain rule."""
        fields = [x]
        for operator in reversed(self.operators[1:]):
            fields.append(operator.A(fields[-1]))
        for operator, field in zip(self.operators, reversed(fields), strict=True):
            v = operator.A_vjp(field, v)
        return v

    def A_jvp(self, x: Tensor, v: Tensor) -> Tensor:
        """The Jacobian at `x` applied to `v`, by the chain rule."""
        for operator in reversed(self.operators):
            x, v = operator.A(x), jacobian_product(operator, x, v)
        return v


class LinearComposition(Composition, LeastSquaresMixin):
    """A composition of linear operators."""

    def __init__(self, operators: Sequence[LinearPhysics]) -> None:
        LinearPhysics.__init__(self, img_size=getattr(operators[-1], "img_size", None), **plain_physics())
        self._join(operators)
        self.factor = _uniform_scale(operators[-1]) if len(operators) == 2 else None
        row_power = getattr(operators[0], "row_power", None)
        if self.factor is not None and row_power is not None:
            self.row_power = self.factor**2 * row_power

    def A_adjoint(self, y: Tensor) -> Tensor:
        for operator in self.operators:
            y = operator.A_adjoint(y)
        return y

    def A_vjp(self, x: Tensor, v: Tensor) -> Tensor:
        return self.A_adjoint(v)

    def adjoint_of_units(self, index: Tensor) -> Tensor:
        """A^T of data that are 1 at one flat place each, for an outer operator that has it; `(places, *field)`."""
        x: Tensor = self.operators[0].adjoint_of_units(index)
        for operator in self.operators[1:]:
            x = operator.A_adjoint(x)
        return x

    def normal(self, x: Tensor, precision: Tensor) -> Tensor:
        """A^T P A x, for an outer operator that has it, see `physics.mri.multicoil`; shape of x."""
        for operator in reversed(self.operators[1:]):
            x = operator.A(x)
        x = self.operators[0].normal(x, precision)
        for operator in self.operators[1:]:
            x = operator.A_adjoint(x)
        return x

    def A_dagger(self, y: Tensor, **settings: Any) -> Tensor:
        """A^+ y; after one change of scale alone it is that of the outer operator."""
        if self.factor is None or self.row_power is not None:
            return super().A_dagger(y, **settings)
        return self.operators[0].A_dagger(y, **settings) / self.factor

    def prox_l2(self, z: Tensor, y: Tensor, gamma: float, **settings: Any) -> Tensor:
        """As `LeastSquaresMixin.prox_l2`; after one change of scale alone by that of the outer operator."""
        if self.factor is None or self.row_power is not None:
            return super().prox_l2(z, y, gamma, **settings)
        return self.operators[0].prox_l2(self.factor * z, y, gamma * self.factor**2, **settings) / self.factor

    def prox_stationary(self, z: Tensor, y: Tensor, power: Tensor, noise: float, **settings: Any) -> Tensor:
        """As `LeastSquaresMixin.prox_stationary`, likewise."""
        if self.factor is None or not isinstance(self.operators[0], LeastSquaresMixin):
            return super().prox_stationary(z, y, power, noise, **settings)
        return self.operators[0].prox_stationary(z, y / self.factor, power, noise / self.factor, **settings)


def outermost_has(operator: Physics, method: str) -> bool:
    """Whether an operator, or the outermost one of a composition, has a method that not all have."""
    while isinstance(operator, LinearComposition):
        operator = operator.operators[0]
    return hasattr(operator, method)


def strip_scaling(operator: Physics) -> Physics:
    """The operator itself, without the changes of scale before it."""
    while isinstance(operator, LinearComposition) and operator.factor is not None:
        operator = operator.operators[0]
    return operator


def _uniform_scale(operator: Physics) -> float | None:
    """Return the factor of a change of scale if it is one positive number; None otherwise."""
    if not isinstance(operator, Scale):
        return None
    first = float(operator.scale.flatten()[0])
    return first if first > 0 and bool((operator.scale == first).all()) else None


def compose(*operators: Physics) -> Composition:
    """Compose operators, outermost first; the result is a `LinearPhysics` if all of them are."""
    linear = all(isinstance(operator, LinearPhysics) for operator in operators)
    return LinearComposition(operators) if linear else Composition(operators)


def is_affine(operator: Physics) -> bool:
    """Whether the Jacobian of an operator is the same everywhere: it is linear, but for a shift."""
    if isinstance(operator, Composition):
        return all(is_affine(part) for part in operator.operators)
    return isinstance(operator, LinearPhysics | Affine)


class LinearCombination(LinearOperator):
    """A weighted sum of linear operators on the same field; a datum is observed if any of them observes it.

    Arguments:
        weights: Weight of each operator.
        operators: Linear operators from and to the same spaces.
    """

    name = "sum"
    operators: Any

    def __init__(self, weights: Sequence[float], operators: Sequence[LinearOperator]) -> None:
        first = operators[0]
        masks = [operator.observed for operator in operators if operator.observed is not None]
        observed = torch.stack(masks).any(0) if len(masks) == len(operators) else None
        super().__init__(first.grid, first.channels, first.data_shape, first.data_grid, observed)
        self.weights = tuple(weights)
        self.operators = torch.nn.ModuleList(operators)

    def A(self, x: Tensor) -> Tensor:
        return torch.stack([w * A.A(x) for w, A in zip(self.weights, self.operators, strict=True)]).sum(0)

    def A_adjoint(self, y: Tensor) -> Tensor:
        return torch.stack([w * A.A_adjoint(y) for w, A in zip(self.weights, self.operators, strict=True)]).sum(0)


class Scale(LinearOperator):
    """Pointwise multiplication, `scale * x`, from standardised units to those of the field.

    Arguments:
        grid: Grid of the field.
        channels: Number of channels.
        scale: Broadcastable to `(channel, *space)`.
    """

    name = "affine"
    scale: Tensor

    def __init__(self, grid: Grid | PointSet, channels: int, scale: Tensor) -> None:
        super().__init__(grid, channels, (channels, *grid.shape), grid)
        self.register_buffer("scale", scale)

    def A(self, x: Tensor) -> Tensor:
        return self.scale * x

    def A_adjoint(self, y: Tensor) -> Tensor:
        return self.scale * y


class SelectChannel(LinearOperator):
    """One channel of a field.

    Arguments:
        grid: Grid of the field.
        channels: Number of channels.
        index: Index of the channel.
    """

    name = "channel"

    def __init__(self, grid: Grid | PointSet, channels: int, index: int) -> None:
        super().__init__(grid, channels, (1, *grid.shape), grid)
        self.index = index
        self.row_power = 1.0

    def A(self, x: Tensor) -> Tensor:
        return x[:, self.index : self.index + 1]

    def A_adjoint(self, y: Tensor) -> Tensor:
        x = y.new_zeros((len(y), self.channels, *y.shape[2:]))
        x[:, self.index] = y[:, 0]
        return x


class Affine(ComplexBuffers, Physics):
    """Pointwise `shift + scale * x`; affine, so not a `LinearPhysics`. Arguments as for `Scale`."""

    name: ClassVar[str] = "affine"
    observed: Tensor | None
    scale: Tensor
    shift: Tensor

    def __init__(self, grid: Grid | PointSet, channels: int, scale: Tensor, shift: Tensor) -> None:
        super().__init__(**plain_physics())
        self.grid = self.data_grid = grid
        self.channels = channels
        self.data_shape = (channels, *grid.shape)
        self.register_buffer("observed", None)
        self.register_buffer("scale", scale)
        self.register_buffer("shift", shift)

    def A(self, x: Tensor) -> Tensor:
        return self.shift + self.scale * x

    def A_vjp(self, x: Tensor, v: Tensor) -> Tensor:
        return self.scale * v

    def A_jvp(self, x: Tensor, v: Tensor) -> Tensor:
        return self.scale * v


def build_affine(description: OperatorDescription) -> Scale | Affine:
    description.expect(arrays=("scale", "shift"))
    grid, channels = description.grid, description.channels
    shapes = (channels, *(1,) * len(grid.shape)), (channels, *grid.shape)
    scale = torch.from_numpy(description.array("scale", *shapes).astype("float64"))
    if "shift" not in description.arrays:
        return Scale(grid, channels, scale)
    return Affine(grid, channels, scale, torch.from_numpy(description.array("shift", *shapes).astype("float64")))


def build_sum(weights: object, operators: Sequence[Physics]) -> LinearCombination:
    """A linear combination, checked.

    Raises:
        InfieldError: If there is not one finite weight an operator, or an operator is not linear, or their data have
            different shapes.
    """
    numbers = isinstance(weights, list | tuple) and all(is_number(w) for w in weights)
    if not numbers or len(weights) != len(operators):  # type: ignore[arg-type]
        raise InfieldError(
            where="operator 'sum'", found=f"weights {weights!r}", expected=f"{len(operators)} finite numbers"
        )
    for operator in operators:
        if not isinstance(operator, LinearPhysics):
            raise InfieldError(
                where="operator 'sum'", found=f"'{operator.name}', which is not linear", expected="linear operators"
            )
    shapes = [operator.data_shape for operator in operators]
    if len(set(shapes)) > 1:
        raise InfieldError(where="operator 'sum'", found=f"data of shapes {shapes}", expected="one and the same")
    return LinearCombination(weights, operators)  # type: ignore[arg-type]
