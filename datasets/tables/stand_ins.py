"""Numbers that stand for missing values without being marked by their file: -9999 among temperatures of 3 to 20."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from infield.core.errors import InfieldError
from infield.datasets.tables.given import Given

CODES = (
    *(-99.0, -99.9, -99.99, -999.0, -999.9, -999.99, -9999.0, -9999.9, -99999.0, -32767.0, -32768.0, -2147483648.0),
    *(-777.0, -888.0, -888.8, -8888.0, -2147483647.0),
    *(99.9, 99.99, 999.0, 999.9, 999.99, 9999.0, 9999.9, 99999.0, 32767.0),
    *(-1e20, -1e30, -1e34, 1e15, 1e20, 1e30, 1e35, 9.969209968386869e36),
)
"""Numbers by which instruments, archives and libraries mark missing values."""


def stand_ins(values: np.ndarray) -> tuple[float, int, float, float] | None:
    """The first of these numbers that lies apart from all other values by more than their own range.

    Arguments:
        values: Of any shape; NaN counts as missing already.

    Returns:
        The number, how often it occurs, and the range of the others; None where there is none.
    """
    finite = values[np.isfinite(values)]
    others = finite[~np.isin(finite.astype(np.float32), np.array(CODES, dtype=np.float32))]
    if len(others) in (0, len(finite)):
        return None
    low, high = float(others.min()), float(others.max())
    for code in CODES:
        count = int((finite.astype(np.float32) == np.float32(code)).sum())
        enough = 1 if code < 0 or code > 1000 else 2  # 99.9 once may be the largest of all
        if count >= enough and (code < low - (high - low) or code > high + (high - low)):
            return code, count, low, high
    return None


def refuse_stand_ins(source: Path | Given, name: str, values: np.ndarray) -> None:
    """Refuse values among which there is such a number.

    Raises:
        InfieldError: There is.
    """
    found = stand_ins(values)
    if found is None:
        return
    code, count, low, high = found
    raise InfieldError(
        where=f"{source}: '{name}'",
        found=f"{code:g} in {count} of {values.size} values, the others from {low:g} to {high:g}",
        expected="data, and missing values that are empty, NaN or marked by the file",
        remedy="name it ({missing}), or say that it is a value like the others ({no_missing})",
        parameters={"missing": int(code) if code == round(code) and abs(code) < 1e9 else code, "no_missing": None},
    )
