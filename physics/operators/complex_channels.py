"""Operators of complex fields or data, or of data in several arrays, as maps of real fields to one real array."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from infield.core._deepinv import LinearPhysics, Physics
from infield.core.grid import Grid, PointSet
from infield.physics.operators.base import ComplexBuffers, plain_physics

COMPLEX = {torch.float32: torch.complex64, torch.float64: torch.complex128}


class _RealChannels(ComplexBuffers):
    """Real fields to real data through an operator that has complex ones.

    Complex data become twice as many channels, real parts first; data of several arrays one channel with all values in
    a row. The adjoint is that of the real inner products.

    Arguments:
        inner: The operator.
        grid: Grid of the field.
        channels: Number of real channels of the field.
        complex_field: Whether they are real and imaginary parts, the former first; else the field is real, whether the
            operator takes it so (`as_complex` False) or as complex numbers.
        as_complex: See above.
    """

    inner: Physics
    observed: Tensor | None
    builder: Callable[..., Physics]
    recipe: tuple[Any, ...]

    def __init__(
        self, inner: Physics, grid: Grid | PointSet, channels: int, *, complex_field: bool, as_complex: bool
    ) -> None:
        super().__init__(**plain_physics())
        self.inner, self.grid, self.channels = inner, grid, channels
        self.complex_field, self.as_complex = complex_field, as_complex
        with torch.no_grad():
            found = inner.A(self._field(torch.zeros(1, channels, *grid.shape, dtype=torch.float64)))
        self.arrays = [tuple(y.shape[1:]) for y in found] if _several(found) else None
        self.row = self.arrays is None and found.ndim == 2
        self.complex_data = any(y.is_complex() for y in found) if _several(found) else found.is_complex()

    def __reduce__(self) -> tuple[Any, ...]:
        return self.builder, self.recipe, self.state_dict()

    def __setstate__(self, state: Mapping[str, Tensor]) -> None:
        self.load_state_dict(state, strict=False, assign=True)

    def A(self, x: Tensor, **settings: Any) -> Tensor:
        """The data of real fields `(batch, channel, *space)`."""
        y = self.inner.A(self._field(x))
        if self.arrays is not None:
            y = torch.cat([part.flatten(1) for part in y], dim=1)[:, None]
        y = y[:, None] if self.row else y
        return (torch.cat([y.real, y.imag], dim=1) if y.is_complex() else y).to(x.dtype)

    def _field(self, x: Tensor) -> Tensor:
        if self.complex_field:
            half = x.shape[1] // 2
            return torch.complex(x[:, :half], x[:, half:])
        return x.to(COMPLEX[x.dtype]) if self.as_complex else x

    def _real(self, g: Tensor) -> Tensor:
        if self.complex_field:
            return torch.cat([g.real, g.imag if g.is_complex() else torch.zeros_like(g)], dim=1)
        return g.real if g.is_complex() else g

    def _data(self, y: Tensor) -> Any:
        if self.complex_data:
            half = y.shape[1] // 2
            y = torch.complex(y[:, :half], y[:, half:])
        if self.arrays is None:
            return y[:, 0] if self.row else y
        from deepinv.utils import TensorList

        parts = y[:, 0].split([math.prod(shape) for shape in self.arrays], dim=1)
        return TensorList([p.reshape(len(y), *shape) for p, shape in zip(parts, self.arrays, strict=True)])


class LinearRealChannels(_RealChannels, LinearPhysics):
    """As `_RealChannels`, of a linear operator."""

    def A_adjoint(self, y: Tensor, **settings: Any) -> Tensor:
        """The adjoint under real inner products."""
        return self._real(self.inner.A_adjoint(self._data(y))).to(y.dtype)


class NonlinearRealChannels(_RealChannels, Physics):
    """As `_RealChannels`, of a nonlinear operator; its transposed Jacobian is that of autograd."""

    def A_vjp(self, x: Tensor, v: Tensor) -> Tensor:
        """The transposed Jacobian at x applied to v."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            (found,) = torch.autograd.grad(self.A(x), x, v)
        return found


def real_channels(inner: Physics, grid: Grid | PointSet, channels: int, *, complex_field: bool) -> Physics:
    """An operator behind real fields and data; a real field is taken as complex numbers where nothing else is accepted.

    Raises:
        ValueError: A complex field has an odd number of real channels.
        Exception: Whatever the operator raises for such a field.
    """
    if complex_field and channels % 2:
        raise ValueError(f"complex_field needs an even number of channels (real and imaginary parts), found {channels}")
    kind = LinearRealChannels if isinstance(inner, LinearPhysics) else NonlinearRealChannels
    try:
        return kind(inner, grid, channels, complex_field=complex_field, as_complex=False)
    except Exception:
        if complex_field:
            raise
        try:
            return kind(inner, grid, channels, complex_field=False, as_complex=True)
        except Exception:  # the error of a real field is clearer
            pass
        raise


def _several(y: Any) -> bool:
    return not isinstance(y, Tensor)
