"""Which measurements are point data, and what they are as such: values at positions, with trend and shared errors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from infield.core.errors import InfieldError
from infield.physics.measurement import Measurement
from infield.physics.noise.gaussian import GaussianNoise
from infield.physics.noise.low_rank import LowRankGaussianNoise
from infield.physics.operators.sensors import Mask, PointSensors
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
    """Whether a measurement is of the field itself in places: a mask or point sensors, with Gaussian noise."""
    noise = isinstance(measurement.noise, GaussianNoise | LowRankGaussianNoise)
    return noise and isinstance(measurement.operator, Mask | PointSensors)


def point_data(measurement: Measurement, trend: TrendKind = "constant") -> PointData:
    """The data of a measurement as values at positions.

    Arguments:
        measurement: Such that `is_point_data` holds.
        trend: Which functions of position are fitted along.

    Raises:
        InfieldError: If the trend is none of the known ones, or a channel has no data.
    """
    if trend not in get_args(TrendKind):
        raise InfieldError(where="{trend}", found=trend, expected=", ".join(get_args(TrendKind)), parameters=["trend"])
    geometry, operator, noise = Geometry.of(measurement.grid), measurement.operator, measurement.noise
    x = operator.data_grid.points() if isinstance(operator, PointSensors) else measurement.grid.points()
    y = measurement.y[0].to(torch.float64).flatten(1)
    observed = torch.ones_like(y, dtype=torch.bool)
    if measurement.observed is not None:
        observed = measurement.observed.flatten(1)
    assert isinstance(noise, GaussianNoise | LowRankGaussianNoise)
    variance = noise.diagonal if isinstance(noise, LowRankGaussianNoise) else noise.variance
    variance = variance.to(torch.float64).expand(measurement.y.shape[1:]).flatten(1)
    functions = Trend.of(trend, geometry, x[observed.any(0)])
    channels = []
    for c, name in enumerate(measurement.channels):
        own = observed[c]
        if not own.any():
            raise InfieldError(
                where=f"channel '{name}'", found="no data", expected="at least one", remedy="name a prior with {prior}",
                parameters=["prior"],
            )  # fmt: skip
        design = functions(x[own])
        wide = torch.full((design.shape[1],), torch.inf, dtype=torch.float64)
        if isinstance(noise, LowRankGaussianNoise):
            factors = noise.factors.to(torch.float64).flatten(2)[:, c][:, own].mT
            design = torch.cat([design, factors], 1)
            wide = torch.cat([wide, torch.ones(factors.shape[1], dtype=torch.float64)])
        channels.append(Observations(x[own], y[c][own], variance[c][own], design, wide))
    return PointData(geometry, tuple(channels), functions, not getattr(noise, "estimated", False))
