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
    scale, offset = own.get("scale_factor", 1.0), own.get("add_offset", 0.0)
    numbers = np.asarray(decoded.values)
    words = marked_in_words(numbers, own.get("missing_value"), scale, offset) if numbers.dtype.kind in "iuf" else False
    numbers = np.where(words, np.nan, numbers) if np.any(words) else numbers
    return within_range(numbers, attributes, scale, offset, values.dtype)


def within_range(
    values: np.ndarray, attributes: Mapping[str, Any], scale: float = 1.0, offset: float = 0.0,
    stored: np.dtype[Any] | None = None,
) -> np.ndarray:  # fmt: skip
    """Values, float64, with NaN in place of what lies outside of the range that the file calls valid; as they are
    where it states none.

    The range is of packed numbers. One of floating-point numbers beside packed integers may be of unpacked values
    (NetCDF Users Guide, appendix A, `valid_range`), and is taken so where the other reading would leave fewer than
    half of the values and this one more.

    Arguments:
        values: Unpacked.
        attributes: Of the array in its file.
        scale: By which packed numbers were multiplied, and
        offset: what was added to them.
        stored: Type of the packed numbers.
    """
    if not any(key in attributes for key in VALID):
        return values
    ends, floating = _bounds(attributes, stored)
    array = np.asarray(values, dtype=np.float64)
    low, high = (None if end is None else end * scale + offset for end in ends)
    bad = _outside(array, *((high, low) if scale < 0 else (low, high)), abs(scale) / 2 if scale != 1 else 0.0)
    packed = stored is not None and stored.kind in "iu" and (scale, offset) != (1.0, 0.0)
    seen = np.isfinite(array)
    if floating and packed and 2 * int((bad & seen).sum()) > int(seen.sum()):
        of_values = _outside(array, *ends, 0.0)
        bad = of_values if of_values.sum() < bad.sum() else bad
    return np.where(bad, np.nan, array)


def _outside(array: np.ndarray, low: float | None, high: float | None, slack: float) -> np.ndarray:
    """Numbers below or above two ends, None for an open one."""
    with np.errstate(invalid="ignore"):
        bad = np.zeros(array.shape, dtype=bool)
        if low is not None:
            bad |= array < low - slack
        if high is not None:
            bad |= array > high + slack
    return bad


def marked_in_words(values: np.ndarray, attribute: object, scale: float = 1.0, offset: float = 0.0) -> np.ndarray:
    """Which values a `missing_value` marks that is text, such as "-888", and of packed numbers like any other."""
    if not isinstance(attribute, str):
        return np.zeros(values.shape, dtype=bool)
    try:
        marks = [float(part) * scale + offset for part in re.split(r"[,;\s]+", attribute.strip()) if part]
    except ValueError:
        return np.zeros(values.shape, dtype=bool)
    half = abs(scale) / 4 if scale != 1 else 0.0
    found = np.zeros(values.shape, dtype=bool)
    for mark in marks:
        found |= np.isclose(values, mark, rtol=0.0 if half else 1e-6, atol=half)
    return found


def _bounds(
    attributes: Mapping[str, Any], stored: np.dtype[Any] | None
) -> tuple[tuple[float | None, float | None], bool]:
    """The ends of the valid range, of numbers or of text that holds them; None for an open end. And whether they are
    floating-point numbers.

    Signed integers beside unsigned ones, which netCDF-3 does not have, mean the numbers of the same bits.

    Raises:
        InfieldError: They are no numbers.
    """
    floating = False
    found: list[float | None] = []
    for name, count in (("valid_range", 2),) if "valid_range" in attributes else (("valid_min", 1), ("valid_max", 1)):
        value = attributes.get(name)
        if value is None:
            found.append(None)
            continue
        parts = re.split(r"[,;\s]+", value.strip()) if isinstance(value, str) else np.atleast_1d(value).tolist()
        floating |= not isinstance(value, str) and np.asarray(value).dtype.kind == "f"
        same_bits = not isinstance(value, str) and stored is not None and str(attributes.get("_Unsigned")) == "true"
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
        if same_bits and stored is not None and stored.kind in "iu":
            ends = [end % 2.0 ** (8 * stored.itemsize) for end in ends]
        found += ends
    return (found[0], found[1]), floating
