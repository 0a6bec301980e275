"""Shared by samplers of amortised models: check that a measurement is in the training range."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from infield.core.errors import InfieldError
from infield.physics.measurement import Measurement
from infield.physics.noise.gaussian import GaussianNoise
from infield.physics.operators.composition import strip_scaling
from infield.physics.operators.fingerprint import operator_fingerprint
from infield.priors.amortised.average_velocity import AverageVelocity, outside_training_range
from infield.priors.amortised.base import AmortisedModel
from infield.priors.amortised.unrolled import Unrolled


@dataclass(frozen=True)
class AmortisedProblem:
    """A measurement of standardised fields within a model's training range.

    Arguments:
        measurement: The measurement.
        noise: Standard deviation of its noise, in the units of the data.
        scale: Of the model's fields in units.
    """

    measurement: Measurement
    noise: float
    scale: float

    def estimate(self, f: Unrolled) -> Tensor:
        """f(y), shape `(1, channel, *space)`, float64."""
        y, observed, A = self.measurement.y, self.measurement.observed, self.measurement.operator
        if observed is not None:
            y = torch.where(observed, y, torch.zeros_like(y))
        return f.estimate(A, y, self.noise, bare=strip_scaling(A), unit=self.scale)


def check_amortised(method: str, model: AmortisedModel, measurement: Measurement) -> AmortisedProblem:
    """The measurement, checked.

    Arguments:
        method: Name of the sampler, for messages.
        model: What the sampler was given.
        measurement: In the model's standardised units.

    Raises:
        InfieldError: The model was trained for other measurements.
    """
    return AmortisedProblem(measurement, check_noise(method, model, measurement), scale_of(model))


def check_noise(
    method: str, model: AverageVelocity | AmortisedModel, measurement: Measurement, *, exact: bool = False
) -> float:
    """Standard deviation of the noise of a measurement within a model's training range.

    Arguments:
        method: Name of the sampler, for messages.
        model: What was trained.
        measurement: In its standardised units.
        exact: Whether the data are taken to be exact.

    Raises:
        InfieldError: The model was trained for other measurements.
    """
    variance = getattr(measurement.noise, "variance", None)
    if not isinstance(measurement.noise, GaussianNoise) or variance is None or variance.numel() != 1:
        raise InfieldError(
            where=f"sampler {method}",
            found="another noise model",
            expected="Gaussian noise of one variance for all data",
            remedy="whiten the data, or use {sampler}",
            parameters={"sampler": "faps"},
        )
    noise, (operator, numbers) = float(variance.sqrt()), operator_fingerprint(measurement.operator)  # type: ignore[arg-type]
    reason = outside_training_range(model, operator, numbers, 0.0 if exact else noise)  # type: ignore[arg-type]
    if reason:
        raise InfieldError(
            f"'{model.name}' was not trained for this measurement: {reason}",
            where=f"sampler {method}",
            remedy="train one that is, or use a prior with {sampler}",
            parameters={"sampler": "faps"},
        )
    return noise


def scale_of(model: AverageVelocity | AmortisedModel) -> float:
    """Its fields in units over standardised ones."""
    return float(model.standardisation.scale.flatten()[0])
