"""Standard deviations in the units of the data that they are of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from infield.core.errors import InfieldError
from infield.datasets.tables.given import Given
from infield.physics.units import NONE, conversion, known_units, same_units


def in_units_of_data(
    source: Path | Given, name: str | None, of_noise: Mapping[str, Any], stated: str | None, of_data: Mapping[str, Any]
) -> float:
    """By what standard deviations are multiplied to be in the units of the data; 1 where one side states none.

    Arguments:
        source: The file, for messages.
        name: Of the variable of standard deviations.
        of_noise: Its attributes.
        stated: Units of the data that the caller states.
        of_data: Attributes of the data.

    Raises:
        InfieldError: They are variances, or measure something else.
    """
    noise, data = str(of_noise.get("units", "1")).strip(), str(stated or of_data.get("units", "1")).strip()
    if noise in NONE or data in NONE or noise == data:
        return 1.0
    if not (known_units(noise) and known_units(data)):
        return 1.0
    squared = f"({data})^2"
    if known_units(squared) and same_units(noise, squared):
        raise InfieldError(
            where=f"{source}: '{name}'",
            found=f"variances, in '{noise}'",
            expected=f"standard deviations, in '{data}'",
            remedy="take their square roots",
        )
    try:
        return abs(conversion(noise, data).slope)
    except InfieldError as error:
        raise InfieldError(
            where=f"{source}: '{name}'", found=f"units '{noise}'", expected=f"those of the data, '{data}'",
            remedy="mend the attribute, or give one standard deviation for all ({noise_std})", parameters=["noise_std"],
        ) from error  # fmt: skip
