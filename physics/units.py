"""Units as CF and UDUNITS spell them: which are the same, and how values of one become values of the other."""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from infield.core.errors import InfieldError

SAME_RTOL = 1e-9
"""Relative difference of two scales up to which they are one."""

LONGITUDE = ("degrees_east", "degree_east", "degree_E", "degrees_E", "degreeE", "degreesE")
LATITUDE = ("degrees_north", "degree_north", "degree_N", "degrees_N", "degreeN", "degreesN")
CIRCLE = 360.0
"""Degrees after which longitudes repeat."""

NONE = ("1", "")
"""Spellings in files without units."""


def on_earth(units: tuple[str, ...]) -> bool:
    """Whether units are those of one longitude and one latitude."""
    return sum(u in LONGITUDE for u in units) == sum(u in LATITUDE for u in units) == 1


@dataclass(frozen=True)
class Conversion:
    """Values in other units: `slope * value + offset`; differences and standard deviations by the slope alone."""

    slope: float
    offset: float = 0.0

    def __call__(self, values: np.ndarray) -> np.ndarray:
        return self.slope * values + self.offset

    @property
    def identity(self) -> bool:
        return math.isclose(self.slope, 1, rel_tol=SAME_RTOL) and abs(self.offset) <= SAME_RTOL


def same_units(one: str, other: str) -> bool:
    """Whether two spellings mean one unit: 'K' and 'kelvin', 'm s-1' and 'm/s'.

    Units that no parser reads are the same only if they are spelled the same.

    Examples:
        >>> same_units("m s-1", "m/s"), same_units("degC", "K")
        (True, False)
    """
    if one.split() == other.split():
        return True
    if one in NONE and other in NONE:
        return True
    known = _parsed(one), _parsed(other)
    if None in known or known[0].units.dimensionality != known[1].units.dimensionality:
        return False
    return bool(conversion(one, other).identity)


def conversion(one: str, other: str) -> Conversion:
    """How values in one unit become values in another.

    Raises:
        InfieldError: A unit is unknown, or the two measure different quantities.
    """
    if one.split() == other.split():
        return Conversion(1.0)
    old, new = _parsed(one), _parsed(other)
    for text, parsed in ((one, old), (other, new)):
        if parsed is None:
            raise InfieldError(where="units", found=f"'{text}'", expected="units as UDUNITS spells them, e.g. 'm s-1'")
    if old.units.dimensionality != new.units.dimensionality:
        raise InfieldError(
            where="units",
            found=f"'{one}' and '{other}'",
            expected="units of one quantity",
            remedy="no factor leads from one to the other",
        )
    if _number_of(one) is None and _number_of(other) is None and old.magnitude == new.magnitude == 1:
        zero, unit = (_registry().Quantity(value, old.units).to(new.units).magnitude for value in (0.0, 1.0))
        return Conversion(unit - zero, zero)
    return Conversion((old.to(new.units) / new).to("").magnitude)  # a scale such as '1e-3' precedes the unit


def known_units(text: str) -> bool:
    """Whether the parser reads these units."""
    return text in NONE or _parsed(text) is not None


def _number_of(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


@cache
def _parsed(text: str) -> Any:
    """A quantity of pint, or None; names of units are tried in lower case as well ('Kelvin')."""
    registry = _registry()
    for spelling in dict.fromkeys((text, text.lower() if len(text) > 3 else text)):
        number = _number_of(spelling)
        if number is not None:
            return registry.Quantity(number, "") if number > 0 else None
        try:
            found = registry.parse_expression(spelling)
            if not hasattr(found, "units"):
                return None
            return found if math.isfinite(found.magnitude) else None
        except Exception:  # pint and its parser raise whatever they meet: syntax, undefined names, types
            continue
    return None


@cache
def _registry() -> Any:
    """Pint's units with the names of UDUNITS; imported where two spellings differ, since it takes a second."""
    logger = logging.getLogger("pint")
    level = logger.level
    logger.setLevel(logging.ERROR)  # cf-xarray redefines some units, on purpose
    try:
        from cf_xarray.units import units
    finally:
        logger.setLevel(level)
    return units
