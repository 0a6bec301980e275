"""A measurement of wall pressure of another flow than its prior's training."""

from __future__ import annotations

from typing import Any

from infield.physics.measurement import Measurement
from infield.physics.wall_pressure.wall_units import RE_TAU_RTOL


def another_flow(measurement: Measurement, prior: Any) -> str | None:
    """A line where a measurement is of another flow than the prior's training; None where not.

    Arguments:
        measurement: A measurement; its context names its flow.
        prior: A prior, or what was trained for a family of measurements.
    """
    known = getattr(prior, "provenance", {}).get("data", {}).get("Re_tau")
    found = measurement.context["Re_tau"].number if "Re_tau" in measurement.context else None
    if known is None or found is None or abs(found / known - 1) <= RE_TAU_RTOL:
        return None
    longer = "weak" if found > known else "strong"
    return (
        f"{measurement.source}: found Re_tau {found:g}, the prior was trained at Re_tau {known:g}: in wall units its "
        f"short waves hold, its longest ones are too {longer}; fine-tune it on a few hundred planes of this flow "
        "(pipelines/configs/fit_wall_pressure.yaml)"
    )
