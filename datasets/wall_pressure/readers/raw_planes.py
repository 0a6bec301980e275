"""What an adapter found in a file of wall-pressure planes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Positions:
    """A coordinate of a file: values, units, and whether the axis is periodic, if the file states it."""

    values: np.ndarray
    units: str = ""
    periodic: bool | None = None


@dataclass(frozen=True, kw_only=True)
class RawPlanes:
    """What an adapter found in a file, in the file's own units.

    Arguments:
        path: The file.
        kind: Human-readable name of its kind.
        sizes: Number of points along `z` and `x`, of `time`s, and of `wall`s (1 where there is one only).
        read: Reads planes: times, number of the wall -> shape `(times, z, x)`.
        flow: `re_tau`, `u_tau`, `nu`, `half_height`, `rho`, and the periods `length_x` and `length_z` in the units of
            the coordinates, as far as the file has them.
        pressure_units: As the file has them; "" if it has none.
        coordinates: Of `z`, `x` and `time`, as far as the file has them.
        length_units: Units of lengths where the file has no coordinates.
        walls: Which walls there are, 0 bottom or 1 top, in order; None if the file does not state them.
        synthetic: Whether the file is marked as a stand-in.
        provenance: Further facts, in JSON types.
        history: What was corrected so far.
        order_is_named: Whether the axes were found by their names; if not, the values decide.
        z_is_fastest: Whether neighbours along z are neighbours in the file.
    """

    path: Path
    kind: str
    sizes: Mapping[str, int]
    read: Callable[[slice, int], np.ndarray]
    flow: Mapping[str, float]
    pressure_units: str = ""
    coordinates: Mapping[str, Positions] = field(default_factory=dict)
    length_units: str = ""
    walls: tuple[int, ...] | None = None
    synthetic: bool = False
    provenance: Mapping[str, Any] = field(default_factory=dict)
    history: tuple[str, ...] = ()
    order_is_named: bool = True
    z_is_fastest: bool = False

    def units_of(self, axis: str) -> str:
        """Units of lengths along an axis."""
        return self.coordinates[axis].units if axis in self.coordinates else self.length_units
