"""Numbers as people and programs write them, and why a cell is none."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd

MINUS = str.maketrans({"\u2212": "-", "\u2013": "-"})
"""The minus sign and the dash that text processors put in its place."""

FORTRAN = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))[dD]([+-]?\d+)")
THOUSANDS = re.compile(r"[+-]?\d{1,3}(,\d{3})+(\.\d*)?")


def to_numbers(column: pd.Series) -> pd.Series:
    """A column as float64: signs of text processors and exponents of Fortran (1.5D+03) are understood; NaN where a cell
    is none."""
    values = pd.to_numeric(column, errors="coerce")
    lost = values.isna() & column.notna()
    if lost.any():
        text = column[lost].astype(str).str.strip().map(lambda cell: cell.translate(MINUS))
        values = values.astype(np.float64)
        values[lost] = pd.to_numeric(text.str.replace(FORTRAN, r"\1e\2", regex=True), errors="coerce")
    return values


def reason(cells: pd.Series, first: int) -> tuple[str, list[str]]:
    """What to do about cells that are no numbers, and the parameters that this names.

    Arguments:
        cells: They.
        first: Row of the first of them, from 0.
    """
    text = str(cells.iloc[0]).strip()
    if THOUSANDS.fullmatch(text):
        return "write them without separators of thousands, 10500.0", []
    if text.startswith("-"):  # which a command takes for an option
        return "missing values are empty cells or NaN", []
    missing = "missing values are empty cells or NaN, or name what stands for them ({missing})"
    if first == 0 and len(cells) == 1:
        return f"{missing}; a row of units goes, and is stated ({{units}}, {{at_units}})", [
            "missing",
            "units",
            "at_units",
        ]
    return missing, ["missing"]
