"""Time between two sessions, from the tables of BIDS; never guessed."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path

from infield.core.errors import InfieldError

DAYS_PER_YEAR = 365.25


def acquisition_time(image: Path) -> datetime | None:
    """`acq_time` of an image in its scans.tsv, or of its session in sessions.tsv; None where neither has it.

    Shifted dates, as anonymisation makes them, keep their differences.
    """
    for folder in image.parents[:4]:
        for table in sorted((*folder.glob("*_scans.tsv"), *folder.glob("*_sessions.tsv"))):
            with table.open(encoding="utf-8-sig", newline="") as file:
                for row in csv.DictReader(file, delimiter="\t"):
                    session = row.get("session_id")
                    mine = Path(row.get("filename") or "").name == image.name
                    mine = mine or (session is not None and f"_{session}_" in f"_{image.name}")
                    if mine and row.get("acq_time") not in (None, "", "n/a"):
                        return _time(str(row["acq_time"]), table)
    return None


def _time(text: str, table: Path) -> datetime:
    """A time of ISO 8601; one with a zone as universal time, as BIDS has those without a zone be of one place."""
    try:
        time = datetime.fromisoformat(text.strip().replace("Z", "+00:00"))
    except ValueError:
        raise InfieldError(
            where=table, found=f"acq_time '{text}'", expected="YYYY-MM-DDThh:mm:ss",
            remedy="correct it, or give the interval ({years})", parameters=["years"],
        ) from None  # fmt: skip
    return time if time.tzinfo is None else time.astimezone(UTC).replace(tzinfo=None)


def years_between(baseline: Path, followup: Path, given: float | None = None) -> float:
    """Interval in years.

    Raises:
        InfieldError: It is neither given nor in the tables, or not above zero.
    """
    if given is None:
        first, second = acquisition_time(baseline), acquisition_time(followup)
        if first is None or second is None:
            raise InfieldError(
                where=baseline if first is None else followup,
                found="no acq_time in scans.tsv or sessions.tsv",
                expected="one",
                remedy="give the interval ({years})",
                parameters=["years"],
            )
        given = (second - first).total_seconds() / 86400 / DAYS_PER_YEAR
    if not 0 < given < 100:
        raise InfieldError(where="interval", found=f"{given:g} years", expected="above 0",
                           remedy="is the follow-up named before the baseline?")  # fmt: skip
    return given
