"""Notes about names of columns that hold information no reader uses, such as units."""

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
    """Longitudes whose name contains west, none of which is negative."""
    if column.kind != "longitude" or not _WEST.match(column.name) or np.nanmin(column.values) < 0:
        return []
    return [f"warning: longitudes '{column.name}' are taken eastwards; give them a minus if they count westwards"]
