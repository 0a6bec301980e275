"""What an argument from a file or a person is: a number, a whole number.

Truth values are no numbers here, although Python counts `bool` as `int`. Each place says in its own words what it
expected.
"""

from __future__ import annotations

import math
from typing import TypeGuard


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a value is one finite real number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def is_positive(value: object) -> TypeGuard[int | float]:
    """Whether a value is one finite number above zero."""
    return is_number(value) and value > 0


def is_whole(value: object, least: int = 0) -> TypeGuard[int]:
    """Whether a value is a whole number of at least `least`."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= least
