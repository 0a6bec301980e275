"""Notes about names of columns that hold information no reader uses, such as units."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from infield.datasets.tables.axes import Column
from infield.datasets.tables.times import holds_dates

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


def times_left_out(frame: pd.DataFrame, at: Sequence[str]) -> list[str]:
    """Columns of dates that tell data at one place apart, and are no axis."""
    return [
        f"warning: '{name}' holds {frame[name].nunique()} dates and is no axis: data of one place at several times "
        f"count as repeated ({{at}} takes {' '.join([*at, str(name)])})"
        for name in frame
        if name not in at and holds_dates(frame[name]) and frame[name].nunique() > 1
    ]
