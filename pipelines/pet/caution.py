"""Counts of a field that its prior lets fall below zero."""

from __future__ import annotations

from typing import Any

from infield.physics.measurement import Measurement
from infield.physics.noise.registry import PoissonGaussianNoise, PoissonNoise
from infield.physics.operators.composition import is_affine
from infield.physics.pet.projection import Projection


def counts_without_link(measurement: Measurement, prior: Any) -> str | None:
    """A line where counts are those of projections of the field itself, under a Gaussian prior; None where not.

    Arguments:
        measurement: Its noise and operator determine whether it is one of counts, and whether a link begins the
            operator.
        prior: A prior, or what was trained for a family of measurements.
    """
    if not isinstance(measurement.noise, PoissonNoise | PoissonGaussianNoise) or not is_affine(measurement.operator):
        return None
    if not getattr(prior, "gaussian", False) or not any(
        isinstance(m, Projection) for m in measurement.operator.modules()
    ):
        return None
    return (
        f"{measurement.source}: found counts of a field that a Gaussian prior lets fall below zero; compose the "
        'operator with the link {"name": "exp"} innermost, and the field is the logarithm of the activity'
    )
