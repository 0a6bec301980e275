"""Numbers as CF packs them: fill and missing values, scale, offset, unsigned integers, the valid range."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import xarray as xr

from infield.core.errors import InfieldError

PACKING = ("_FillValue", "missing_value", "scale_factor", "add_offset", "_Unsigned")
VALID = ("valid_range", "valid_min", "valid_max")


def unpacked(values: np.ndarray, attributes: Mapping[str, Any]) -> np.ndarray:
    """Stored numbers as the values that they mean, NaN where there is none (CF 1.11, sections 2.5.1 and 8.1).

    Arguments:
        values: As stored.
        attributes: Of the array in its file.
    """
    own = {key: attributes[key] for key in PACKING if key in attributes}
    if not own and not any(key in attributes for key in VALID):
        return values
    dims = tuple(f"axis_{axis}" for axis in range(values.ndim))
    decoded = xr.conventions.decode_cf_variable(
        "values", xr.Variable(dims, values, own), decode_times=False, decode_timedelta=False
    )
    numbers = np.asarray(decoded.values)
    return within_range(numbers, attributes, own.get("scale_factor", 1.0), own.get("add_offset", 0.0))


def within_range(
    values: np.ndarray, attributes: Mapping[str, Any], scale: float = 1.0, offset: float = 0.0
) -> np.ndarray:
    """Values, float64, with NaN in place of what lies outside of the range that the file calls valid, in packed
    numbers; as they are where it states none."""
    if not any(key in attributes for key in VALID):
        return values
    low, high = _bounds(attributes)
    array = np.asarray(values, dtype=np.float64)
    slack = abs(scale) / 2 if scale != 1 else 0.0
    low, high = (None if end is None else end * scale + offset for end in (low, high))
    low, high = (high, low) if scale < 0 else (low, high)
    with np.errstate(invalid="ignore"):
        bad = np.zeros(array.shape, dtype=bool)
        if low is not None:
            bad |= array < low - slack
        if high is not None:
            bad |= array > high + slack
    return np.where(bad, np.nan, array)


def _bounds(attributes: Mapping[str, Any]) -> tuple[float | None, float | None]:
    """The ends of the valid range, of numbers or of text that holds them; None for an open end.

    Raises:
        InfieldError: They are no numbers.
    """
    found: list[float | None] = []
    for name, count in (("valid_range", 2),) if "valid_range" in attributes else (("valid_min", 1), ("valid_max", 1)):
        value = attributes.get(name)
        if value is None:
            found.append(None)
            continue
        parts = re.split(r"[,;\s]+", value.strip()) if isinstance(value, str) else np.atleast_1d(value).tolist()
        try:
            ends = [float(part) for part in parts]
        except (TypeError, ValueError):
            ends = []
        if len(ends) != count:
            raise InfieldError(
                where=f"attribute {name}",
                found=f"{value!r}",
                expected="two numbers" if count == 2 else "a number",
                remedy="mend it in the file, or remove it there",
            )
        found += ends
    return found[0], found[1]
