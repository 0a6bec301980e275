"""Forward operators that a caller brings along: a function, an `nn.Module`, or a deepinv `Physics` of their own.

Autograd gives what is missing, the adjoint of a linear map and the transposed Jacobian of any other. Everything is
tried once on random fields, so that what cannot work is refused before a run and not within it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from infield.core._deepinv import LinearPhysics, Physics
from infield.core.errors import InfieldError
from infield.core.grid import Grid, PointSet
from infield.physics.operators.base import ComplexBuffers, LinearOperator, plain_physics

RTOL = {torch.float64: 1e-9, torch.float32: 1e-4, torch.bfloat16: 0.1, torch.float16: 0.02}
"""Relative to the data: how far a linear map of a precision may be from linear, and two evaluations from each other."""

SCALES = (1e-3, 1.0, 1e3)
"""Sizes of the fields on which linearity is tried."""


class _Brought:
    """Evaluates a function in its own precision, whatever that of the fields."""

    function: Any
    own_dtype: torch.dtype | None

    def _evaluate(self, x: Tensor) -> Tensor:
        dtype = _dtype_of_weights(self.function) or self.own_dtype
        call = self.function.A if isinstance(self.function, Physics) else self.function
        with torch.set_grad_enabled(x.requires_grad and torch.is_grad_enabled()):  # never for the weights alone
            found: Tensor = call(x if dtype is None else x.to(dtype))
        return found.to(x.dtype) if isinstance(found, Tensor) and not found.is_complex() else found

    def _transposed(self, x: Tensor, v: Tensor) -> Tensor:
        """The transposed Jacobian at x applied to v, by autograd."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            (found,) = torch.autograd.grad(self._evaluate(x), x, v)
        return found


def _dtype_of_weights(function: Any) -> torch.dtype | None:
    """Precision of the weights of a module; None where it has none, or is no module."""
    if not isinstance(function, nn.Module):
        return None
    buffers = (b for name, b in function.named_buffers() if not name.endswith("_device_holder"))  # deepinv's
    return next((t.dtype for t in (*function.parameters(), *buffers) if t.is_floating_point()), None)


class CallableOperator(_Brought, ComplexBuffers, Physics):
    """A map that need not be linear.

    Arguments:
        function: Fields `(batch, channel, *space)` to data `(batch, *data)`.
        grid: Grid of the field.
        channels: Number of channels of the field.
        data_shape: Shape of the data, without the batch.
        own_dtype: Precision in which the function computes; None for that of its argument.
    """

    name: ClassVar[str] = "callable"
    observed: Tensor | None

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        grid: Grid | PointSet,
        channels: int,
        data_shape: tuple[int, ...],
        own_dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(**plain_physics())
        self.function, self.own_dtype = function, own_dtype
        self.grid, self.channels, self.data_shape, self.data_grid = grid, channels, data_shape, None
        self.register_buffer("observed", None)

    def A(self, x: Tensor) -> Tensor:
        return self._evaluate(x)

    def A_vjp(self, x: Tensor, v: Tensor) -> Tensor:
        return self._transposed(x, v)


class LinearCallableOperator(_Brought, LinearOperator):
    """A linear map; arguments as `CallableOperator`."""

    name = "callable"

    def __init__(
        self,
        function: Callable[[Tensor], Tensor],
        grid: Grid | PointSet,
        channels: int,
        data_shape: tuple[int, ...],
        own_dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(grid, channels, data_shape)
        self.function, self.own_dtype = function, own_dtype

    def A(self, x: Tensor) -> Tensor:
        return self._evaluate(x)

    def A_adjoint(self, y: Tensor) -> Tensor:
        return self._transposed(y.new_zeros((len(y), self.channels, *self.grid.shape)), y)


def as_operator(operator: Any, grid: Grid | PointSet, channels: int) -> Physics:
    """Any forward operator as Infield's samplers need it.

    Arguments:
        operator: One of Infield's operators (returned as it is); a deepinv `Physics`, of which `A` suffices; an
            `nn.Module` or another function of fields `(batch, channel, *space)`. A function is linear if it is so on
            random fields of several sizes.
        grid: Grid of the field.
        channels: Number of channels of the field.

    Returns:
        The operator, a `LinearPhysics` where it is linear.

    Raises:
        InfieldError: It is no function, refuses fields of this shape, gives no tensor or not one datum set per field,
            gives other data the second time, is not differentiable by autograd, or is a `LinearPhysics` that is not
            linear or whose `A_adjoint` is not the adjoint.
    """
    if isinstance(operator, Physics) and hasattr(operator, "data_shape"):
        return operator
    if not callable(operator):
        raise InfieldError(
            where="operator",
            found=type(operator).__name__,
            expected="an operator of Infield or deepinv, an nn.Module or a function of fields",
        )
    shape = (channels, *grid.shape)
    x = torch.randn((2, *shape), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    own_dtype, y = _first_data(operator, x)
    tolerance = RTOL[_dtype_of_weights(operator) or own_dtype or torch.float64]
    settings = (operator, grid, channels, tuple(y.shape[1:]), own_dtype)
    linear = LinearCallableOperator(*settings)
    is_linear = _is_linear(linear.A, x, tolerance)
    if isinstance(operator, LinearPhysics) and not is_linear:
        raise _error(
            operator, "a LinearPhysics that is not linear", "A(a x + b z) = a A(x) + b A(z)", "derive it from Physics"
        )
    adopted: Physics = linear if is_linear else CallableOperator(*settings)
    _check_repeatable(operator, adopted, x, y, tolerance)
    _check_alone(operator, adopted, x, y, tolerance)
    v = torch.randn(y.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    try:
        transposed = adopted.A_vjp(x, v)
    except RuntimeError as error:
        raise _error(
            operator, f"no gradient ({_reason(error)})", "one by autograd", "write it with torch's functions"
        ) from error
    if isinstance(operator, LinearPhysics) and type(operator).A_adjoint is not LinearPhysics.A_adjoint:
        own = operator.A_adjoint(v.to(own_dtype or v.dtype))
        if own.shape != transposed.shape or (own - transposed).norm() > 1e3 * tolerance * transposed.norm():
            raise _error(
                operator, "an A_adjoint that is not the adjoint of A", "the adjoint", "leave it out or mend it"
            )
    return adopted


def _first_data(operator: Any, x: Tensor) -> tuple[torch.dtype | None, Tensor]:
    """The precision that a function requires (None for any), and its data of two fields."""
    reason: Exception | None = None
    for dtype in (None, torch.float32):
        for fields in (x, x.abs() + 0.1):
            function = _Brought()
            function.function, function.own_dtype = operator, dtype
            try:
                y = function._evaluate(fields)
            except Exception as error:  # whatever the caller's function raises
                reason = reason or error
                continue
            if not isinstance(y, Tensor) or y.is_complex() or y.ndim < 2 or len(y) != len(x):
                what = f"a {y.dtype} tensor of shape {tuple(y.shape)}" if isinstance(y, Tensor) else type(y).__name__
                raise _error(
                    operator,
                    f"{what} from fields of shape {tuple(x.shape)}",
                    "a real tensor (batch, *data), a complex datum as two real ones",
                )
            return dtype, function._evaluate(x) if fields is x else y
    raise _error(operator, f"it refuses fields of shape {tuple(x.shape)} ({_reason(reason)})", "data") from reason


def _is_linear(A: Callable[[Tensor], Tensor], x: Tensor, tolerance: float) -> bool:
    try:
        for scale in SCALES:
            one, two = scale * x[:1], scale * x[1:]
            parts = 0.5 * A(one) - 2.0 * A(two)
            difference = A(0.5 * one - 2.0 * two) - parts
            if not float(difference.norm()) <= tolerance * float(parts.norm()):
                return False
        return bool((A(torch.zeros_like(x)) == 0).all())
    except Exception:  # it refuses some fields
        return False


def _check_repeatable(operator: Any, adopted: Physics, x: Tensor, y: Tensor, tolerance: float) -> None:
    again = adopted.A(x)
    if torch.isfinite(y).all() and (again - y).norm() > tolerance * y.norm():
        raise _error(operator, "other data the second time", "the same", "put it into evaluation mode, .eval()")


def _check_alone(operator: Any, adopted: Physics, x: Tensor, y: Tensor, tolerance: float) -> None:
    alone = adopted.A(x[1:])
    if alone.shape[1:] != y.shape[1:] or (torch.isfinite(y).all() and (alone - y[1:]).norm() > tolerance * y.norm()):
        raise _error(operator, "data of a field that depend on the rest of the batch", "each field for itself")


def _error(operator: Any, found: str, expected: str, remedy: str = "") -> InfieldError:
    name = getattr(operator, "__name__", type(operator).__name__)
    return InfieldError(where=f"operator {name}", found=found, expected=expected, remedy=remedy)


def _reason(error: Exception | None) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
