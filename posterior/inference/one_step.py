"""Shared by samplers of one step: check that a measurement is within the training range of the model."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from infield.core.randomness import Randomness, normal
from infield.physics.measurement import Measurement
from infield.physics.operators.composition import strip_scaling
from infield.posterior.inference.amortised import check_noise, scale_of
from infield.priors.amortised.adapted_source import adapted_source, soft_null_projection
from infield.priors.amortised.average_velocity import AverageVelocity, conditions

THIRD = 0.4307273
"""A third of standard normal numbers is larger."""


@dataclass(frozen=True)
class OneStepProblem:
    """A model and a measurement within its training range, in standardised units.

    Arguments:
        model: The model.
        measurement: The measurement.
        noise: Standard deviation of its noise in the units of the data.
        scale: That of the model's fields in units.
    """

    model: AverageVelocity
    measurement: Measurement
    noise: float
    scale: float

    def source(self, n: int, generator: Randomness, *, noise: float) -> tuple[Tensor, Tensor]:
        """x_0, inflated by the factor of the model, and its mean, shapes `(n, channel, *space)` and `(1, channel,
        *space)`."""
        y, observed, A = self.measurement.y, self.measurement.observed, self.measurement.operator
        seen = torch.ones_like(y) if observed is None else observed.to(y)[None]
        y = torch.where(seen > 0, y, torch.zeros_like(y))
        e = normal(generator, n, self.measurement.event_shape)
        n_ = seen * normal(generator, n, tuple(y.shape[1:]))
        law = {"power": self.model.power, "noise": noise, "unit": self.scale}
        # its mean, which no random numbers give, and the draws
        e, n_ = (torch.cat([torch.zeros_like(part[:1]), part]) for part in (e, n_))
        every = adapted_source(A, y.expand(n + 1, *y.shape[1:]), e, n_, **law)  # type: ignore[arg-type]
        mean, x_0 = every[:1], every[1:]
        return mean + self.model.widening * (x_0 - mean), mean

    def average_velocity(self, x_0: Tensor, mean: Tensor, generator: Randomness, *, noise: float) -> Tensor:
        """u(x_0, 0, 1 | y), shape of x_0, float64; each draw in a frame moved by -1, 0 or 1 points along each
        axis, as often."""
        outer = strip_scaling(self.measurement.operator)
        weight = next(self.model.network.parameters())
        seen = conditions(outer, mean).expand(len(x_0), -1, *x_0.shape[2:])
        noise_level = torch.full((len(x_0),), noise / self.scale).to(weight)
        n = normal(generator, len(x_0), (x_0.ndim - 2,))
        moved = (n > THIRD).long() - (n < -THIRD).long()
        u = self.model.step(x_0.to(weight), seen.to(weight), noise_level, moved)
        return soft_null_projection(outer, u.to(x_0), noise=noise / self.scale)  # type: ignore[arg-type]


def check_one_step(method: str, model: AverageVelocity, measurement: Measurement, *, exact: bool) -> OneStepProblem:
    """The model and the measurement, checked.

    Arguments:
        method: Name of the sampler, for messages.
        model: The model.
        measurement: In the model's standardised units.
        exact: Whether the data are taken to be exact.

    Raises:
        InfieldError: The model was trained for other measurements.
    """
    return OneStepProblem(model, measurement, check_noise(method, model, measurement, exact=exact), scale_of(model))
