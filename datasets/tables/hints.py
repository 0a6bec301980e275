"""What names of columns say and no reader takes: it is said, so that nobody misses it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np

from infield.datasets.tables.axes import Column

_BRACKETS = re.compile(r".*[\[(]\s*([^\])]+?)\s*[\])]\s*$")
_WEST = re.compile(r"(?i).*(west|[\s_(\[]w[\])]?$)")


def units_in_a_name(name: str, attributes: Mapping[str, Any]) -> list[str]:
    """Units in brackets at the end of a name, of a column without units."""
    bracket = _BRACKETS.match(name)
    if bracket is None or "units" in attributes:
        return []
    return [
        f"warning: the units '{bracket[1]}' stand in the name '{name}' alone and are not taken: state them ({{units}})"
    ]


def westward(column: Column) -> list[str]:
    """Longitudes whose name says west, and none of which is negative."""
    if column.kind != "longitude" or not _WEST.match(column.name) or np.nanmin(column.values) < 0:
        return []
    return [f"warning: longitudes '{column.name}' are taken eastwards; give them a minus if they count westwards"]
