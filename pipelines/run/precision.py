"""In which precision samples are stored: float32, unless its steps matter beside the field's variation or noise."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from infield.core._deepinv import LinearPhysics
from infield.datasets.formats.agreement import VALUES_OF_FIELD
from infield.physics.measurement import Measurement

LARGEST_STEP = 0.01
"""Of a standard deviation, the step between neighbouring stored numbers up to which float32 is enough."""


@torch.no_grad()
def stored_dtype(measurement: Measurement, prior: Any = None) -> str:
    """The precision for the samples of a posterior.

    Arguments:
        measurement: Of the field.
        prior: Its prior; None where the law was fitted to the data alone.

    Returns:
        "float64" where the step of float32 at the field's magnitude exceeds `LARGEST_STEP` of the standard deviation of
        the field or of the noise, each in the units of the field; else "float32".
    """
    noise = _noise_std(measurement)
    data_are_values = measurement.description.get("name") in VALUES_OF_FIELD
    if data_are_values:
        y = measurement.y[0] if measurement.observed is None else measurement.y[0][measurement.observed]
        stds = [float(y.std()) if y.numel() > 1 else 0.0, *noise]
        if _felt(float(y.abs().max()), stds):
            return "float64"
    fields = _typical(prior)
    if fields is not None and _felt(float(fields.abs().max()), [float(fields.std(0).median())]):
        return "float64"
    if fields is None or data_are_values or not noise or not isinstance(measurement.operator, LinearPhysics):
        return "float32"
    if fields.shape[1:] == measurement.event_shape:
        field = fields[:1].to(measurement.y)
        rounding = measurement.operator.A(field - field.float().to(field))
        if float(rounding.abs().max()) > LARGEST_STEP * min(noise):
            return "float64"
    return "float32"


@torch.no_grad()
def dtype_of_fields(prior: Any) -> str:
    """The precision for draws of a prior: "float64" where the step of float32 is felt, as by `stored_dtype`."""
    fields = _typical(prior)
    if fields is not None and _felt(float(fields.abs().max()), [float(fields.std(0).median())]):
        return "float64"
    return "float32"


def _felt(magnitude: float, stds: list[float]) -> bool:
    """Whether the step of float32 at a magnitude exceeds the allowed fraction of a standard deviation."""
    step = float(np.spacing(np.float32(min(magnitude, float(np.finfo(np.float32).max)))))
    return magnitude > float(np.finfo(np.float32).max) or any(step > LARGEST_STEP * std for std in stds if std > 0)


def _noise_std(measurement: Measurement) -> list[float]:
    """The smallest standard deviation of an observed datum's noise, where it is Gaussian and known."""
    variance = getattr(measurement.noise, "variance", None)
    if not isinstance(variance, Tensor) or getattr(measurement.noise, "estimated", False):
        return []
    if variance.ndim and measurement.observed is not None:
        variance = variance.expand(measurement.y.shape[1:])[measurement.observed]
    return [float(variance.min().sqrt())]


def _typical(prior: Any) -> Tensor | None:
    """Some fields in units about the prior's mean, float64; None of priors that are not on this grid as a whole."""
    standardisation, source, mean = (getattr(prior, name, None) for name in ("standardisation", "source", "mean"))
    if standardisation is None or source is None or mean is None:
        return None
    fields: Tensor = standardisation.to_units(mean + source.sample(4, torch.Generator().manual_seed(0)))
    return fields.to("cpu", torch.float64) if bool(torch.isfinite(fields).all()) else None
