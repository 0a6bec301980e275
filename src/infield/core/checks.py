"""Checks of arguments: finite numbers, positive numbers, integers.

Booleans are not numbers here, although `bool` is a subclass of `int`. Callers raise their own errors.
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
