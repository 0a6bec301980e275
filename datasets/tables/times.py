"""Times as CF has them: numbers in "days since ...", of any calendar."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import cftime
import numpy as np
import pandas as pd

from infield.core.errors import InfieldError

STANDARD = ("standard", "gregorian", "proleptic_gregorian")
FORMATS = ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M", "%Y-%m-%d", "%Y-%m", "%Y")
"""Of dates in calendars that pandas does not support."""


def as_numbers(
    name: str,
    column: pd.Series,
    attributes: Mapping[str, Any],
    units: str | None,
    calendar: str | None,
    order: str | None = None,
) -> tuple[np.ndarray, str, str]:
    """A column of times as numbers.

    Numbers with units "... since ..." are taken as they are, or converted if other units are requested; text, times,
    and numbers without units that all are dates such as 20200228 become days since the day of the first of them. Times
    with a zone are those of UTC.

    Arguments:
        name: Of the column, for messages.
        column: Numbers, text or times.
        attributes: CF attributes of the file, with `units` and `calendar`.
        units: Units that the caller states: of numbers without units, else those to convert to.
        calendar: Calendar that the caller states.
        order: Of dates such as 03/04/2020, see `_year_first`.

    Returns:
        Numbers (NaN where there is none), their units, their calendar.

    Raises:
        InfieldError: Text is no date, a date is none of its calendar, or numbers have no units.
    """
    calendar = calendar or str(attributes.get("calendar", "standard"))
    if pd.api.types.is_numeric_dtype(column) and units is None and "units" not in attributes and _eight_digits(column):
        column = column.map(_with_dashes)
    if pd.api.types.is_numeric_dtype(column):
        return _converted(name, column.to_numpy(dtype=np.float64), attributes.get("units"), units, calendar)
    try:
        if pd.api.types.is_datetime64_any_dtype(column) or calendar in STANDARD:
            written = column if _is_time(column) else _year_first(column, order)
            times = pd.to_datetime(written, utc=True, format=None if _is_time(column) else "mixed")
            first = times.min()
            units = units or f"days since {first:%Y-%m-%d}"
            unit, since = _parts(name, units)
            origin = pd.Timestamp(since) if pd.Timestamp(since).tzinfo else pd.Timestamp(since, tz="UTC")
            values = (times - origin) / pd.Timedelta(1, unit)  # type: ignore[call-overload]
            return values.to_numpy(dtype=np.float64), units, calendar
        dates = [None if pd.isna(cell) else _parsed(str(cell).strip(), calendar) for cell in column]
        first = min(date for date in dates if date is not None)
        units = units or f"days since {first.strftime('%Y-%m-%d')}"
        numbers = [np.nan if date is None else cftime.date2num(date, units, calendar) for date in dates]
        return np.array(numbers, dtype=np.float64), units, calendar
    except _Order as error:
        if error.mixed:
            raise InfieldError(
                where=f"column '{name}'",
                found=str(error),
                expected="one order",
                remedy="write all of them in one order",
            ) from error
        raise InfieldError(
            where=f"column '{name}'",
            found=str(error),
            expected="dates such as 2001-02-28",
            remedy="state what comes first ({dates})",
            parameters={"dates": "day-first"},
        ) from error
    except (ValueError, TypeError, OverflowError) as error:
        raise InfieldError(
            where=f"column '{name}'",
            found=" ".join(str(error).split("\n")[0].split()),
            expected=f"dates of the calendar '{calendar}', e.g. 2001-02-28T12:00",
            remedy="name the calendar ({calendar}), or mend them",
            parameters=["calendar"],
        ) from error


def holds_dates(column: pd.Series) -> bool:
    """Whether a column is of times, or of text with a date in every cell, whatever its name."""
    if pd.api.types.is_datetime64_any_dtype(column):
        return True
    cells = column.dropna()
    if not len(cells) or pd.api.types.is_numeric_dtype(cells):
        return False
    return bool(cells.astype(str).str.match(r"\s*\d{1,4}([-/.])\d{1,2}\1\d{1,4}").all())


class _Order(ValueError):
    """Dates that do not tell whether days or months come first; mixed ones have both orders."""

    def __init__(self, found: str, *, mixed: bool) -> None:
        super().__init__(found)
        self.mixed = mixed


def _with_dashes(value: float) -> str | None:
    text = f"{value:.0f}"
    return None if pd.isna(value) else f"{text[:4]}-{text[4:6]}-{text[6:]}"


def _eight_digits(column: pd.Series) -> bool:
    """Whether all numbers are dates such as 20200228."""
    values = column.dropna().to_numpy(dtype=np.float64)
    month, day = values // 100 % 100, values % 100
    whole = (values == values.round()) & (values >= 1600_01_01) & (values < 2200_01_01)
    return bool(len(values) and (whole & (month >= 1) & (month <= 12) & (day >= 1) & (day <= 31)).all())


_NUMBERS = re.compile(r"\s*(\d{1,2})([./-])(\d{1,2})\2(\d{4}|\d{2})(?!\d)(.*)", re.DOTALL)


def _year_first(column: pd.Series, order: str | None) -> pd.Series:
    """Text of dates, with those of the kind 31/12/2020 turned to 2020-12-31: one order for the whole column.

    Arguments:
        column: Text.
        order: "day-first" or "month-first"; None where the dates themselves decide: one that can be read in one way
            alone, or dots, which follow days.

    Raises:
        ValueError: They do not decide, or some are of one kind and some of the other.
    """
    found = [None if pd.isna(cell) else _NUMBERS.fullmatch(str(cell)) for cell in column]
    dates = [match for match in found if match is not None]
    if not dates:
        return column
    day_first = next((m for m in dates if int(m[1]) > 12), None)
    month_first = next((m for m in dates if int(m[3]) > 12), None)
    if order is None and day_first is not None and month_first is not None:
        both = f"'{day_first[0].strip()}' and '{month_first[0].strip()}', days first and months first"
        raise _Order(both, mixed=True)
    open_ = [m for m in dates if m[2] != "." and (len(m[4]) == 2 or (day_first is None and month_first is None))]
    if order is None and open_:
        open_one = f"'{open_[0][0].strip()}', of which day, month or year may be the first"
        raise _Order(open_one, mixed=False)
    days = order == "day-first" if order is not None else month_first is None

    def turned(match: re.Match[str]) -> str:
        day, month = (match[1], match[3]) if days else (match[3], match[1])
        year = match[4] if len(match[4]) == 4 else f"{1900 if int(match[4]) >= 69 else 2000:d}"[:2] + match[4]
        return f"{year}-{int(month):02d}-{int(day):02d}{match[5]}"

    turned_cells = [cell if m is None else turned(m) for cell, m in zip(column, found, strict=True)]
    return pd.Series(turned_cells, index=column.index, name=column.name)


def _is_time(column: pd.Series) -> bool:
    return pd.api.types.is_datetime64_any_dtype(column)


def _converted(
    name: str, values: np.ndarray, found: object, units: str | None, calendar: str
) -> tuple[np.ndarray, str, str]:
    stated = str(found) if found is not None and " since " in str(found) else None
    if stated is None or units is None or stated == units:
        chosen = stated or units
        if chosen is None:
            return values, str(found or "1"), ""  # a number without an origin: an axis like any other
        _parts(name, chosen)
        return values, chosen, calendar
    _parts(name, units)
    finite = np.isfinite(values)
    converted = np.full_like(values, np.nan)
    dates = cftime.num2date(values[finite], stated, calendar)
    converted[finite] = cftime.date2num(dates, units, calendar)
    return converted, units, calendar


PERIODS = {"days": "D", "day": "D", "d": "D", "hours": "h", "hour": "h", "hr": "h", "h": "h", "minutes": "min",
           "minute": "min", "min": "min", "seconds": "s", "second": "s", "sec": "s", "s": "s"}  # fmt: skip


def _parts(name: str, units: str) -> tuple[str, str]:
    """Period, as pandas writes it, and origin of "days since 2000-01-01"."""
    period, _, since = units.partition(" since ")
    if period.strip().lower() not in PERIODS or not since.strip():
        raise InfieldError(
            where=f"column '{name}'",
            found=f"units '{units}'",
            expected="days, hours, minutes or seconds since a date; months and years have no fixed length",
            remedy="state others ({at_units})",
            parameters=["at_units"],
        )
    return PERIODS[period.strip().lower()], since.strip()


def _parsed(text: str, calendar: str) -> cftime.datetime:
    for layout in FORMATS:
        try:
            return cftime.datetime.strptime(text, layout, calendar=calendar)
        except ValueError:
            continue
    raise ValueError(f"'{text}'")
