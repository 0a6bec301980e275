"""At which astrophysical parameters lightcones are emulated: what a person writes in a YAML file.

One point, `ION_Tvir_MIN: 4.8`, a line a parameter; a range in place of a number, `HII_EFF_FACTOR: [10, 250]`, for a
Latin hypercube over all ranges; or a list of points, each a mapping of numbers, which share the cones evenly and in
their order: of 10 cones at two points, cones 0 to 4 are of the first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from infield.core.errors import InfieldError
from infield.pipelines.cm21.parameter_design import Design


@dataclass(frozen=True)
class EmulationPoints:
    """Contents of such a file.

    Arguments:
        path: The file.
        designs: One for each of its points, or one of ranges.
    """

    path: Path
    designs: Sequence[Design]

    @property
    def corners(self) -> list[dict[str, float]]:
        """Points between which all cones lie: each point, or the lowest and the highest value of every range."""
        found = []
        for design in self.designs:
            for end in (0, 1) if design.ranges else (0,):
                found.append({**design.fixed, **{name: span[end] for name, span in design.ranges.items()}})
        return found

    @property
    def described(self) -> list[dict[str, Any]]:
        """The same in JSON types."""
        return [{**d.fixed, **{name: list(span) for name, span in d.ranges.items()}} for d in self.designs]

    def parameters(self, samples: int, seed: int) -> dict[str, np.ndarray]:
        """Parameters of all cones, `(samples,)` each.

        Raises:
            InfieldError: The points cannot share so many cones evenly.
        """
        share, left = divmod(samples, len(self.designs))
        if left:
            raise InfieldError(
                where="--samples",
                found=f"{samples} cones for the {len(self.designs)} points of {self.path}",
                expected="a multiple: the points share them evenly",
            )
        parts = [design.points(share, seed) for design in self.designs]
        return {name: np.concatenate([part[name] for part in parts]) for name in self.corners[0]}


def read_points(path: Path) -> EmulationPoints:
    """Read such a file.

    Raises:
        InfieldError: It is missing or no YAML, or holds nothing that can be a point.
    """
    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InfieldError(
            where=path, found="no file there", expected="YAML with parameters", remedy="check the path"
        ) from None
    except (yaml.YAMLError, UnicodeDecodeError, OSError) as error:
        raise InfieldError(where=path, found=" ".join(str(error).split()), expected="YAML") from error
    several = isinstance(found, list)
    points = found if several else [found]
    if not points or not all(isinstance(point, Mapping) for point in points):
        raise InfieldError(
            where=path,
            found=f"{found!r:.80}",
            expected="a mapping NAME: VALUE or NAME: [LOW, HIGH], or a list of mappings NAME: VALUE",
        )
    designs = [_design(f"{path}, point {i}" if several else f"{path}", point) for i, point in enumerate(points)]
    if several and any(design.ranges for design in designs):
        raise InfieldError(
            where=path, found="a range within a list of points", expected="numbers", remedy="give one mapping of ranges"
        )
    names = [sorted({*design.fixed, *design.ranges}) for design in designs]
    for i, other in enumerate(names):
        if other != names[0]:
            raise InfieldError(
                where=f"{path}, point {i}", found=", ".join(other), expected=f"{', '.join(names[0])} as in point 0"
            )
    return EmulationPoints(path, designs)


def _design(where: str, point: Mapping[Any, Any]) -> Design:
    ranges, fixed = {}, {}
    for name, value in point.items():
        if isinstance(value, list):
            if len(value) != 2:
                raise InfieldError(where=f"{where}, {name}", found=value, expected="a number, or [LOW, HIGH]")
            low, high = (_number(f"{where}, {name}", end) for end in value)
            if not low < high:
                raise InfieldError(
                    where=f"{where}, {name}", found=f"{low:g} to {high:g}", expected="a lower and a higher value"
                )
            ranges[str(name)] = (low, high)
        else:
            fixed[str(name)] = _number(f"{where}, {name}", value)
    return Design(ranges, fixed)


def _number(where: str, value: Any) -> float:
    try:
        number = math.nan if isinstance(value, bool) else float(value)  # YAML takes 1e3 for text
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise InfieldError(where=where, found=f"{value!r}", expected="a finite number")
    return number
