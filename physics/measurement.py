"""A measurement: the data, the operator that made them, and the law of their noise."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infield.core._deepinv import LinearPhysics, Physics
from infield.core.errors import InfieldError
from infield.core.grid import Grid, PointSet
from infield.physics.noise.base import GaussianLaw, NoiseLaw
from infield.physics.operators.composition import Affine, Scale, compose


@dataclass(frozen=True, kw_only=True, eq=False)
class Measurement:
    """Data `y` of one field `x`, with the law y ~ noise(A x).

    Arguments:
        y: Data, shape `(1, *data)`; entries that are not observed may hold anything.
        operator: The forward operator A, linear or not.
        noise: Law of the data given A x.
        grid: Where the field lives.
        channels: Names of the field's channels.
        units: Units of the field.
        observed: Bool, shape `data`: which entries of `y` are data. None: those that the operator observes if it says
            so, else all.
        truth: The field, if known, shape `(1, channel, *space)`.
        description: The operator as `build_operator` reads it.
        arrays: The arrays that the description names.

    Raises:
        InfieldError: If shapes do not match, an observed datum is not finite, or nothing is observed.
    """

    y: Tensor
    operator: Physics
    noise: NoiseLaw
    grid: Grid | PointSet
    channels: tuple[str, ...] = ("field",)
    units: str = "1"
    observed: Tensor | None = None
    truth: Tensor | None = None
    description: dict[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.y.shape[0] != 1:
            raise InfieldError(where="measurement", found=f"y of shape {tuple(self.y.shape)}", expected="(1, *data)")
        if self.observed is None:
            object.__setattr__(self, "observed", getattr(self.operator, "observed", None))
        data = tuple(self.y.shape[1:])
        for name, tensor, expected in (
            ("observed", self.observed, data),
            ("truth", self.truth, (1, *self.event_shape)),
            ("y", self.y[0], getattr(self.operator, "data_shape", None) or data),
        ):
            if tensor is not None and tuple(tensor.shape) != tuple(expected):
                raise InfieldError(
                    where="measurement", found=f"{name} of shape {tuple(tensor.shape)}", expected=expected
                )
        if self.observed is not None and self.observed.dtype != torch.bool:
            raise InfieldError(
                where="measurement", found=f"observed of type {self.observed.dtype}", expected="torch.bool"
            )
        values = self.y[0] if self.observed is None else self.y[0][self.observed]
        if values.numel() == 0:
            raise InfieldError(where="measurement", found="no observed datum", expected="at least one")
        wrong = int((~torch.isfinite(values)).sum())
        if wrong:
            raise InfieldError(
                where="measurement",
                found=f"{wrong} NaN or Inf among {values.numel()} observed data",
                expected="finite numbers",
                remedy="mark them as not observed",
            )
        self.noise.check(self.y[0], self.observed)

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Shape of the field, `(channel, *space)`."""
        return (len(self.channels), *self.grid.shape)

    @cached_property
    def count(self) -> int:
        """Number of observed data (a complex datum counts twice)."""
        return self.y.numel() if self.observed is None else int(self.observed.sum())

    @property
    def linear_gaussian(self) -> bool:
        """Whether the operator is linear and the noise Gaussian."""
        return isinstance(self.operator, LinearPhysics) and isinstance(self.noise, GaussianLaw)

    def residual(self, x: Tensor) -> Tensor:
        """Data minus A x, zero where nothing was observed, shape `(batch, *data)`."""
        return self._only_observed(self.y - self._noiseless(x))

    def log_likelihood(self, x: Tensor) -> Tensor:
        """Log density of the observed data given each field, with its constants, shape `(batch,)`."""
        return self.noise.log_prob(*self._pair(x), self.observed)

    def gradient(self, x: Tensor) -> Tensor:
        """Derivative of `log_likelihood` with respect to the field, shape of `x`."""
        y, z = self._pair(x)
        return self.operator.A_vjp(x, self._only_observed(self.noise.gradient(y, z)))

    def chi_square(self, x: Tensor) -> Tensor:
        """Reduced chi-square per observed datum, shape `(batch,)`; Pearson's for counts."""
        return self.noise.chi_square(*self._pair(x), self.observed) / self.count

    def standardised(self, shift: Tensor, scale: Tensor) -> Measurement:
        """The same measurement of the field u = (x - shift) / scale, with the same likelihood.

        A linear operator under Gaussian noise stays linear: A scale u is measured by y - A shift. Otherwise the affine
        map becomes part of the operator, A(shift + scale u), and the data stay as they are.

        Arguments:
            shift: Shape `(channel, 1, ...)` or `(channel, *space)`, in the field's units.
            scale: Likewise, no zeros.
        """
        shift, scale = (torch.as_tensor(value).to(self.y) for value in (shift, scale))
        channels, y = len(self.channels), self.y
        arrays, parts = dict(self.arrays), {"scale": scale}
        inner: Physics
        if self.linear_gaussian:
            inner = Scale(self.grid, channels, scale)
            y = y - self.operator.A(shift.expand(self.event_shape)[None])
        else:
            inner = Affine(self.grid, channels, scale, shift)
            parts["shift"] = shift
        roles = {role: f"standardisation_{len(arrays)}_{role}" for role in parts}
        arrays |= {roles[role]: self._spread(value).numpy(force=True) for role, value in parts.items()}
        operators = [self.description, {"name": "affine", "arrays": roles}]
        return dataclasses.replace(
            self,
            y=y,
            operator=compose(self.operator, inner),
            truth=None if self.truth is None else (self.truth - shift) / scale,
            units="1",
            description={"name": "compose", "operators": operators} if self.description else {},
            arrays=arrays,
        )

    def _spread(self, value: Tensor) -> Tensor:
        """A shift or scale as the operator 'affine' reads it: a number for each channel, or for each point of each."""
        sizes = (1,) * (len(self.event_shape) - value.ndim) + tuple(value.shape)
        constant = all(size == 1 for size in sizes[1:])
        return value.expand((len(self.channels), *sizes[1:]) if constant else self.event_shape)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Measurement:
        """A copy on another device or in another precision; the operator is copied, not moved."""

        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, dtype if tensor.is_floating_point() else None)

        return dataclasses.replace(
            self,
            y=move(self.y),
            operator=copy.deepcopy(self.operator).to(device=device, dtype=dtype),
            noise=self.noise.to(device),
            observed=None if self.observed is None else move(self.observed),
            truth=None if self.truth is None else move(self.truth),
        )

    def _noiseless(self, x: Tensor) -> Tensor:
        z = self.operator.A(x)
        if z.shape[1:] != self.y.shape[1:]:
            found, expected = tuple(z.shape[1:]), tuple(self.y.shape[1:])
            raise InfieldError(f"measurement: the operator gives data of shape {found}, expected that of y, {expected}")
        return z

    def _pair(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Data and noiseless data, both 1 where nothing was observed: harmless in every law, whatever lies there."""
        z = self._noiseless(x)
        if self.observed is None:
            return self.y, z
        y, z = (torch.where(self.observed, data, torch.ones_like(data)) for data in (self.y, z))
        return y, z

    def _only_observed(self, data: Tensor) -> Tensor:
        return data if self.observed is None else torch.where(self.observed, data, torch.zeros_like(data))
