"""The nearest known name in place of an unknown one."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A remedy that offers the nearest name, or one that contains the unknown name; empty if none is near.

    Arguments:
        name: The unknown name.
        known: All names there are.
    """
    known = list(known)
    near = get_close_matches(name, known, n=1) or [k for k in known if name and name in k][:1]
    return f"did you mean '{near[0]}'?" if near else ""
