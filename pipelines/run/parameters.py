"""Parameters that an option gives as `NAME=VALUE`."""

from __future__ import annotations

import math
from collections.abc import Sequence

from infield.core.errors import InfieldError


def named_numbers(option: str, texts: Sequence[str]) -> dict[str, float]:
    """Numbers by name, from `NAME=VALUE`.

    Arguments:
        option: The option, for messages.
        texts: What it was given.

    Raises:
        InfieldError: A value is no finite number, or a name is given twice.
    """
    values: dict[str, float] = {}
    for text in texts:
        name, _, number = text.partition("=")
        if name in values:
            raise InfieldError(where=option, found=f"{name} twice", expected="once")
        values[name] = finite_number(f"{option} {text}", number)
    return values


def finite_number(where: str, text: str) -> float:
    """A number written as text.

    Raises:
        InfieldError: It is no finite number.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InfieldError(where=where, found=f"'{text}'", expected="a finite number")
    return value
