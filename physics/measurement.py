"""A measurement: the data, the operator that made them, and the law of their noise."""

from __future__ import annotations

import copy
import dataclasses
import warnings
from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infield.core import transform as transforms
from infield.core._deepinv import LinearPhysics, Physics
from infield.core.brief import Brief
from infield.core.errors import InfieldError
from infield.core.grid import Grid, PointSet
from infield.core.transform import Transform
from infield.physics.context import Quantity
from infield.physics.noise.base import GaussianNoiseModel, NoiseModel
from infield.physics.noise.models import check_noise
from infield.physics.operators.callables import as_operator
from infield.physics.operators.composition import compose
from infield.physics.operators.pullback import Inner, inner_operator, scaling


@dataclass(frozen=True, eq=False, repr=False)
class Measurement(Brief):
    """Data `y` of one field `x`, with the law y ~ noise(A x).

    Arguments:
        y: Data, shape `(1, *data)` or `data`, a tensor or array; entries that are not observed may hold anything.
        operator: The forward operator A, linear or not; also a function of fields, see `operators.callables`.
        noise: Law of the data given A x.
        grid: Domain of the field; by default the grid of the operator.
        channels: Names of the field's channels.
        units: Units of the field.
        observed: Bool, shape `data`: which entries of `y` are data. None: those that the operator observes if it
            defines so, else all.
        truth: The field, if known, shape `(1, channel, *space)`.
        description: The operator as `build_operator` reads it.
        arrays: The arrays that the description names.
        data_units: Units of the data.
        context: What else is known of this field, by name: numbers, and fields on the same grid, on which a prior may
            be conditioned.
        source: The file that this was read from; what is derived from a measurement keeps it, and the next two.
        digest: SHA-256 of the file's contents.
        attributes: The file's attributes.
        carried: Metadata of the field in its file, for the files derived from it.

    Raises:
        InfieldError: If shapes do not match, an observed datum is not finite, or nothing is observed; if the noise is
            no noise model, or the operator none that can work (see `as_operator`).
    """

    y: Tensor
    _: KW_ONLY
    operator: Physics
    noise: NoiseModel
    grid: Grid | PointSet = None  # type: ignore[assignment]  # filled in at once
    channels: tuple[str, ...] = ("field",)
    units: str = "1"
    observed: Tensor | None = None
    truth: Tensor | None = None
    description: dict[str, Any] = field(default_factory=dict)
    arrays: Mapping[str, np.ndarray] = field(default_factory=dict)
    data_units: str = "1"
    context: Mapping[str, Quantity] = field(default_factory=dict)
    source: Path | None = None
    digest: str | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)
    carried: Any = None

    def __post_init__(self) -> None:
        self._take_what_callers_bring()
        if self.y.ndim == 0 or self.y.shape[0] != 1:
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
        for name, quantity in self.context.items():
            shape = (1, *quantity.value.shape[1:2], *self.grid.shape) if isinstance(quantity.value, Tensor) else ()
            if isinstance(quantity.value, Tensor) and tuple(quantity.value.shape) != shape:
                raise InfieldError(
                    where=f"context '{name}'",
                    found=f"a field of shape {tuple(quantity.value.shape)}",
                    expected=f"(1, channel, {', '.join(map(str, self.grid.shape))}), the grid of the measurement",
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

    def _take_what_callers_bring(self) -> None:
        """Arrays of data, a grid that the operator has, a function as the operator."""
        if not isinstance(self.y, Tensor) or not self.y.is_floating_point():
            y = torch.as_tensor(self.y)
            if y.is_complex():
                raise InfieldError(
                    where="measurement", found=f"y of type {y.dtype}", expected="real data, two for a complex datum"
                )
            object.__setattr__(self, "y", y.to(torch.float64))
        check_noise(self.noise)
        if self.grid is None:
            object.__setattr__(self, "grid", getattr(self.operator, "grid", None))
        if not isinstance(self.grid, Grid | PointSet):
            raise InfieldError(
                where="measurement", found="no grid", expected="one", remedy="give {grid}, e.g. Grid.regular((64, 64))",
                parameters=["grid"],
            )  # fmt: skip
        if not self.description and hasattr(self.operator, "described"):
            for name, part in zip(("description", "arrays"), self.operator.described, strict=True):
                object.__setattr__(self, name, part)
        object.__setattr__(self, "operator", as_operator(self.operator, self.grid, len(self.channels)))
        if tuple(self.y.shape) == getattr(self.operator, "data_shape", None):
            object.__setattr__(self, "y", self.y[None])

    def about(self) -> dict[str, object]:
        """What a short description shows."""
        linear = "linear" if isinstance(self.operator, LinearPhysics) else "nonlinear"
        name = getattr(self.operator, "name", type(self.operator).__name__)
        field = f"{', '.join(self.channels)} {tuple(self.grid.shape)}"
        return {
            **({} if self.source is None else {"file": self.source.name}),
            "data": f"{self.count} in {self.data_units}",
            "operator": f"{name} ({linear})",
            "noise": type(self.noise).__name__,
            "field": f"{field} in {self.units} over ({', '.join(self.grid.names)})",
            **({"context": ", ".join(self.context)} if self.context else {}),
        }

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
        return isinstance(self.operator, LinearPhysics) and isinstance(self.noise, GaussianNoiseModel)

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

    def pullback(self, transform: Transform) -> Measurement:
        """The same measurement of the field z behind x = T(z), with the same likelihood.

        A linear operator under Gaussian noise stays linear behind an affine map: A scale z is measured by y - A shift.
        Every other transform becomes the innermost part of the operator, and the data stay as they are.

        Arguments:
            transform: T, see `core.transform`.

        Returns:
            The measurement, with a description where a file can hold one. The truth is carried along behind maps of
            values one by one that reach it.

        Raises:
            InfieldError: The transform is not for fields on such a grid.
        """
        measurement = self
        for part in transform.parts:
            measurement = measurement._behind(part)
        return measurement

    def standardised(self, shift: Tensor, scale: Tensor) -> Measurement:
        """Old name of `pullback(Affine(shift, scale))`."""
        warnings.warn("Measurement.standardised: expected pullback(Affine(shift, scale))", DeprecationWarning, 2)
        return self.pullback(transforms.Affine(*(torch.as_tensor(value).to(self.y) for value in (shift, scale))))

    def _behind(self, part: Transform) -> Measurement:
        y, channels = self.y, len(self.channels)
        if isinstance(part, transforms.Affine) and self.linear_gaussian:
            y = y - self.operator.A(part.shift.to(y).expand(self.event_shape)[None])
            inner = scaling(part, self.grid, channels, y)
        else:
            inner = inner_operator(part, self.grid, channels, y)
        description, arrays = self._described(inner)
        by_values = isinstance(part, transforms.Affine | transforms.Pointwise)
        here = inner.grid is self.grid
        return dataclasses.replace(
            self,
            y=y,
            operator=compose(self.operator, inner.operator),
            grid=inner.grid,
            truth=_behind_truth(part, self.truth) if by_values else None,
            units="1" if by_values else self.units,
            description=description,
            arrays=arrays,
            context={name: known for name, known in self.context.items() if here or known.number is not None},
        )

    def _described(self, inner: Inner) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Description and arrays of the operator after another one; none where one of them has none."""
        if inner.description is None or not self.description:
            return {}, {} if inner.description is None else dict(self.arrays)
        named = dict(self.arrays)
        roles = {role: f"transform_{len(named)}_{role}" for role in inner.arrays}
        named |= {roles[role]: self._spread(value).numpy(force=True) for role, value in inner.arrays.items()}
        own = inner.description | ({"arrays": roles} if roles else {})
        return {"name": "compose", "operators": [self.description, own]}, named

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
            context={name: quantity.to(device, dtype) for name, quantity in self.context.items()},
        )

    def _noiseless(self, x: Tensor) -> Tensor:
        z = self.operator.A(x)
        if z.shape[1:] != self.y.shape[1:]:
            found, expected = tuple(z.shape[1:]), tuple(self.y.shape[1:])
            raise InfieldError(
                where="measurement", found=f"an operator with data of shape {found}", expected=f"that of y, {expected}"
            )
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


def _behind_truth(part: Transform, truth: Tensor | None) -> Tensor | None:
    try:
        return None if truth is None else part.inverse(truth)
    except InfieldError:  # a value that the map does not reach, as zero by an exponential
        return None
