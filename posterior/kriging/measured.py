"""Which measurements are point data, and what they are as such: values at positions, with trend and shared errors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from infield.core.errors import InfieldError
from infield.physics.measurement import Measurement
from infield.physics.noise.gaussian import GaussianNoise
from infield.physics.noise.low_rank import LowRankGaussianNoise
from infield.physics.noise.stack import StackedNoise
from infield.physics.operators.sensors import Mask, PointSensors
from infield.physics.operators.stack import Stack
from infield.posterior.kriging.covariates import covariates_of
from infield.posterior.kriging.law import Geometry
from infield.posterior.kriging.observations import Observations, Trend

TrendKind = Literal["none", "constant", "linear"]


@dataclass(frozen=True)
class PointData:
    """Data at positions, channel by channel.

    Arguments:
        geometry: Of the domain.
        channels: Data of each channel, in units of the field.
        trend: Functions of position around which the field varies.
        noise_known: Whether the level of the noise is known.
    """

    geometry: Geometry
    channels: tuple[Observations, ...]
    trend: Trend
    noise_known: bool

    @property
    def count(self) -> int:
        """Number of data."""
        return sum(len(data) for data in self.channels)

    def design_at(self, targets: Tensor, channel: int) -> Tensor:
        """Trend functions at positions away from the data, where shared errors are zero; shape `(m, terms)`."""
        of_trend = self.trend(targets)
        shared = self.channels[channel].design.shape[1] - of_trend.shape[1]
        return torch.cat([of_trend, of_trend.new_zeros(len(targets), shared)], 1)


def is_point_data(measurement: Measurement) -> bool:
    """Whether a measurement is of the field itself in places: masks or point sensors, with Gaussian noise each."""
    operators, models = _parts(measurement)
    return all(isinstance(operator, Mask | PointSensors) for operator in operators) and all(
        isinstance(noise, GaussianNoise | LowRankGaussianNoise) for noise in models
    )


def _parts(measurement: Measurement) -> tuple[list[Any], list[Any]]:
    """Operators and noise models of each instrument."""
    operator, noise = measurement.operator, measurement.noise
    if isinstance(operator, Stack) and isinstance(noise, StackedNoise) and noise.sizes == operator.sizes:
        return list(operator.operators), list(noise.models)
    return [operator], [noise]


@dataclass(frozen=True)
class _Instrument:
    """Data of one instrument: positions `(n, ndim)`; values, observed, variances `(channel, n)`; shared errors
    `(rows, channel, n)`; and whether the level of the variances is to be estimated."""

    x: Tensor
    y: Tensor
    observed: Tensor
    variance: Tensor
    factors: Tensor
    estimated: bool


def _instruments(measurement: Measurement) -> list[_Instrument]:
    operators, models = _parts(measurement)
    whole = len(operators) == 1
    observed = measurement.observed
    if observed is None:
        observed = torch.ones(measurement.y.shape[1:], dtype=torch.bool)
    split = [math.prod(operator.data_shape) for operator in operators]
    pieces = [values.reshape(-1).split(split) for values in (measurement.y[0].to(torch.float64), observed)]
    found = []
    for operator, noise, y, seen in zip(operators, models, *pieces, strict=True):
        shape = (operator.data_shape[0], -1)
        x = operator.data_grid.points() if isinstance(operator, PointSensors) else measurement.grid.points()
        low_rank = isinstance(noise, LowRankGaussianNoise)
        variance = (noise.diagonal if low_rank else noise.variance).to(torch.float64)
        variance = variance.expand(operator.data_shape if whole else y.shape).reshape(shape)
        rows = noise.factors.to(torch.float64) if low_rank else y.new_zeros((0, *y.shape))
        factors = rows.reshape(len(rows), *y.reshape(shape).shape)
        estimated = bool(getattr(noise, "estimated", False))
        found.append(_Instrument(x, y.reshape(shape), seen.reshape(shape), variance, factors, estimated))
    return found


def point_data(measurement: Measurement, trend: TrendKind = "constant", covariates: Sequence[str] = ()) -> PointData:
    """The data of a measurement as values at positions.

    Arguments:
        measurement: Such that `is_point_data` holds.
        trend: Which functions of position are fitted along.
        covariates: Fields of the measurement's context that are fitted along.

    Raises:
        InfieldError: If the trend is none of the known ones, or a channel has no data.
    """
    if trend not in get_args(TrendKind):
        raise InfieldError(where="{trend}", found=trend, expected=", ".join(get_args(TrendKind)), parameters=["trend"])
    geometry, instruments = Geometry.of(measurement.grid), _instruments(measurement)
    fields = covariates_of(covariates, measurement.context, measurement.grid)
    functions = Trend.of(trend, geometry, torch.cat([part.x[part.observed.any(0)] for part in instruments]), fields)
    channels = []
    for c, name in enumerate(measurement.channels):
        own = [part.observed[c] for part in instruments]
        if not torch.cat(own).any():
            raise InfieldError(
                where=f"channel '{name}'", found="no data", expected="at least one", remedy="name a prior with {prior}",
                parameters=["prior"],
            )  # fmt: skip
        x = torch.cat([part.x[seen] for part, seen in zip(instruments, own, strict=True)])
        design = functions(x)
        shared = torch.block_diag(
            *(part.factors[:, c][:, seen].mT for part, seen in zip(instruments, own, strict=True))
        ).reshape(len(x), -1)
        wide = torch.full((design.shape[1],), torch.inf, dtype=torch.float64)
        channels.append(
            Observations(
                x,
                torch.cat([part.y[c][seen] for part, seen in zip(instruments, own, strict=True)]),
                _noise([part.variance[c][seen] for part, seen in zip(instruments, own, strict=True)], instruments),
                torch.cat([design, shared], 1),
                torch.cat([wide, torch.ones(shared.shape[1], dtype=torch.float64)]),
            )
        )
    return PointData(geometry, tuple(channels), functions, not any(part.estimated for part in instruments))


def _noise(variances: list[Tensor], instruments: list[_Instrument]) -> Tensor:
    """Variances of all data; where instruments have levels of their own to be estimated, a column for each of them."""
    estimated = [k for k, part in enumerate(instruments) if part.estimated]
    if len(instruments) == 1 or not estimated:
        return torch.cat(variances)
    columns = []
    for k, variance in enumerate(variances):
        own = variance.new_zeros((len(variance), len(estimated) + 1))
        own[:, estimated.index(k) if k in estimated else -1] = variance
        columns.append(own)
    return torch.cat(columns)
