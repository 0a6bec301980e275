"""Side information of a measurement for priors that are conditioned on it: what they need, from the file or by hand."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from torch import Tensor

from infield.core.errors import InfieldError
from infield.datasets.formats.measurement_context import KEY
from infield.physics.measurement import Measurement


def conditioning(
    conditioned_on: Mapping[str, str], measurement: Measurement, at: Mapping[str, float]
) -> dict[str, float | Tensor]:
    """Values of what a prior is conditioned on.

    Arguments:
        conditioned_on: Units by name, of all that it needs.
        measurement: Its context is used.
        at: Numbers in place of those of the context, in the units of the prior; the prior refuses names of no use.

    Returns:
        A number, or a field of shape `(1, channel, *space)`, for each name, and what else was given by hand.

    Raises:
        InfieldError: A name has no value, or one in other units.
    """
    found: dict[str, float | Tensor] = dict(at)
    for name, units in conditioned_on.items():
        if name in at:
            continue
        known = measurement.context.get(name)
        if known is None:
            raise InfieldError(
                found=f"no value of {name}",
                expected=f"{{at}} {name}=VALUE, or '{name}' in the context of the measurement ({units})",
                parameters=["at"],
            )
        if known.units != units:
            raise InfieldError(
                where=f"{KEY} '{name}' of the measurement", found=f"units '{known.units}'", expected=f"'{units}'"
            )
        found[name] = known.value
    return found


def ignored_context(measurement: Measurement, conditioned_on: Collection[str]) -> str | None:
    """A line where a file states a context that the prior makes no use of; None where not.

    Numbers that a file of version 1 carries along are no statement.

    Arguments:
        measurement: As it was opened.
        conditioned_on: Names that the prior is conditioned on.
    """
    ignored = sorted(set(measurement.context) - set(conditioned_on)) if KEY in measurement.attributes else []
    if not ignored:
        return None
    return f"{measurement.source}: its context {', '.join(ignored)} is not used: the prior is not conditioned on it"
