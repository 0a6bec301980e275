r"""Laws of coefficient fields as the literature of PDE inverse problems draws them: Gaussian, and of two phases.

A centred Gaussian field with covariance :math:`\sigma^2 (-\Delta + \tau^2)^{-\alpha}` on a box is the series of the
eigenfunctions of the Laplacian with independent coefficients. It is summed at the grid's points over as many of them as
the grid has points, less the constant one: on a finer grid the same law with more of its smallest waves.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from infield.core.checks import is_positive
from infield.core.errors import InfieldError
from infield.core.grid import Axis, Grid, GridLike

Boundary = Literal["dirichlet", "neumann", "periodic"]
White = Callable[[tuple[int, ...]], Tensor]
"""Standard normal numbers, new ones each time: from a shape, a tensor `(batch, *shape)`, float64."""

_MODES_OF_VARIANCE = 2**18


def check_positive(what: str, value: object) -> None:
    """InfieldError unless a value is one finite number above zero."""
    if not is_positive(value):
        raise InfieldError(where=what, found=f"{value!r}", expected="a finite number above zero")


@dataclass(frozen=True)
class SpectralField:
    r"""The centred Gaussian law with covariance :math:`\sigma^2 (-\Delta + \tau^2)^{-\alpha}`, without a mean mode.

    Arguments:
        alpha: Smoothness, more than half the number of axes.
        tau: Inverse length beyond which the spectrum falls, > 0, in 1 / (units of the grid).
        amplitude: sigma > 0; None for a variance that averages to 1 over the domain.
        boundary: Condition of the Laplacian: "dirichlet" (sines, zero at the first and last points), "neumann"
            (cosines) or "periodic". A grid is periodic along all axes or none.
    """

    alpha: float = 2.0
    tau: float = 3.0
    amplitude: float | None = None
    boundary: Boundary = "dirichlet"

    def __post_init__(self) -> None:
        numbers = {"alpha": self.alpha, "tau": self.tau, "amplitude": 1.0 if self.amplitude is None else self.amplitude}
        for name, value in numbers.items():
            check_positive(f"random field: {name}", value)
        if self.boundary not in get_args(Boundary):
            raise InfieldError(
                where="random field",
                found=f"boundary {self.boundary!r}",
                expected=f"one of {', '.join(get_args(Boundary))}",
            )

    def draw(self, grid: GridLike, white: White) -> Tensor:
        """Fields at the points of a grid, shape `(batch, *space)`, float64.

        Raises:
            InfieldError: The grid is not regular, or its axes do not fit to the boundary.
        """
        axes = self._axes(grid)
        waves, functions = zip(*(_along(axis, self.boundary) for axis in axes), strict=True)
        variances = self._variances(list(waves), [_length(axis, self.boundary) for axis in axes])
        fields = white(tuple(variances.shape)) * variances.sqrt()
        for along in functions:  # each turn puts one axis of points behind the axes of modes that are left
            fields = torch.tensordot(fields, along, dims=([1], [1]))
        return fields

    def _axes(self, grid: GridLike) -> tuple[Axis, ...]:
        if not isinstance(grid, Grid):
            raise InfieldError(where="random field", found="scattered points", expected="a regular grid")
        axes = grid.axes
        if self.alpha <= len(axes) / 2:
            raise InfieldError(
                where="random field",
                found=f"alpha {self.alpha} on {len(axes)} axes",
                expected=f"more than {len(axes) / 2:g}, without which no value has a finite variance",
            )
        wanted = self.boundary == "periodic"
        for axis in axes:
            if axis.periodic != wanted or axis.size < 3:
                found = f"{axis.size} points{', periodic' * axis.periodic}"
                expected = f"{'a periodic' if wanted else 'an open'} one of at least 3 points"
                raise InfieldError(
                    where="random field",
                    found=f"{found} along '{axis.name}'",
                    expected=f"{expected} for boundary {self.boundary}",
                )
        return axes

    def _variances(self, waves: list[Tensor], lengths: list[float]) -> Tensor:
        """Variance of each coefficient; functions are scaled so that their squares average to 1."""
        if self.amplitude is not None:
            return self.amplitude**2 / math.prod(lengths) * self._spectrum(waves)
        count = round(_MODES_OF_VARIANCE ** (1 / len(waves)))  # the same on every grid
        many = [_waves(count, length, self.boundary) for length in lengths]
        return self._spectrum(waves) / self._spectrum(many).sum()

    def _spectrum(self, waves: list[Tensor]) -> Tensor:
        square = torch.zeros((), dtype=torch.float64)
        for along in waves:
            square = square[..., None] + along**2
        return torch.where(square > 0, (square + self.tau**2) ** -self.alpha, torch.zeros_like(square))


@dataclass(frozen=True)
class TwoPhaseField(SpectralField):
    """A material of two phases: one value where a Gaussian field is positive, another where it is negative.

    With its defaults the permeability of Darcy flow of Li et al. 2021 ("Fourier neural operator"), where the Gaussian
    field has Neumann conditions.

    Arguments:
        high: Value where the field is at least zero, > 0.
        low: Value where it is below, > 0.
        coefficient: "log" if fields hold the logarithm of the value, "value" if the value itself.
    """

    boundary: Boundary = "neumann"
    high: float = 12.0
    low: float = 3.0
    coefficient: Literal["log", "value"] = "log"

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("high", "low"):
            check_positive(f"random field: {name}", getattr(self, name))
        if self.coefficient not in ("log", "value"):
            raise InfieldError(where="random field", found=f"coefficient {self.coefficient!r}", expected="log or value")

    @property
    def values(self) -> tuple[float, float]:
        """The two values that fields hold, `low` and `high`."""
        low, high = (math.log(v) if self.coefficient == "log" else float(v) for v in (self.low, self.high))
        return low, high

    def draw(self, grid: GridLike, white: White) -> Tensor:
        low, high = self.values
        field = super().draw(grid, white)
        return torch.where(field >= 0, torch.full_like(field, high), torch.full_like(field, low))


LI_VORTICITY = SpectralField(alpha=2.5, tau=7.0, amplitude=math.sqrt(2) * 7.0**1.5, boundary="periodic")
"""Vorticity at time 0 as in the data of Li et al. 2021: standard deviation 0.262. The paper prints the covariance
7^(3/2) (-Delta + 49)^(-5/2), which has 0.043; its code multiplies the field by 7^(3/2) and again by sqrt(2)."""


def _length(axis: Axis, boundary: Boundary) -> float:
    return float(axis.spacing * (axis.size - (boundary != "periodic")))


def _waves(count: int, length: float, boundary: Boundary) -> Tensor:
    """Wave numbers of the functions along an axis of `count` points, in increasing order."""
    if boundary == "dirichlet":
        return math.pi / length * torch.arange(1, count - 1, dtype=torch.float64)
    if boundary == "neumann":
        return math.pi / length * torch.arange(count, dtype=torch.float64)
    pairs = torch.arange(1, (count - 1) // 2 + 1, dtype=torch.float64)
    return 2 * math.pi / length * torch.cat([torch.zeros(1, dtype=torch.float64), pairs.repeat_interleave(2)])


def _along(axis: Axis, boundary: Boundary) -> tuple[Tensor, Tensor]:
    """Wave numbers and the functions at the points of an axis, shape `(points, modes)`, with mean square 1."""
    waves = _waves(axis.size, _length(axis, boundary), boundary)
    points = torch.tensor(axis.coordinates, dtype=torch.float64)
    phase = (points - points[0])[:, None] * waves
    functions = math.sqrt(2) * (torch.sin(phase) if boundary == "dirichlet" else torch.cos(phase))
    if boundary == "dirichlet":
        functions[-1] = 0.0  # sin(k pi) but for rounding
        return waves, functions
    functions[:, 0] = 1.0
    if boundary == "periodic":
        functions[:, 2::2] = math.sqrt(2) * torch.sin(phase[:, 2::2])
    return waves, functions
