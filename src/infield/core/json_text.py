"""JSON as its standard has it, without NaN and infinity, which no other program reads."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any


def to_json(value: Any, **settings: Any) -> str:
    """A value as JSON; numbers that are not finite become `null`.

    Arguments:
        value: Of mappings, lists, tuples and what `json` takes.
        settings: As `json.dumps` has them.
    """
    return json.dumps(without_nan(value), allow_nan=False, **settings)


def without_nan(value: Any) -> Any:
    """The same value with None in place of every number that is not finite."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: without_nan(entry) for key, entry in value.items()}
    return [without_nan(entry) for entry in value] if isinstance(value, list | tuple) else value
