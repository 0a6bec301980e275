"""Measurements of one field by several instruments as one: the operator `stack`, and the noise model of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from infield.core.errors import InfieldError
from infield.datasets.formats.measurement import open_measurement
from infield.datasets.tables.converted import Converted
from infield.physics.measurement import Measurement
from infield.physics.noise.stack import flat, stacked
from infield.physics.operators.registry import build_operator
from infield.physics.operators.stack import stacked_observed
from infield.physics.units import NONE, same_units


def join(paths: Sequence[Path]) -> Converted:
    """One measurement of what several files measure.

    Raises:
        InfieldError: Their fields differ, or an operator or noise model has no form for flattened data.
    """
    parts = [open_measurement(path) for path in paths]
    for path, part in zip(paths[1:], parts[1:], strict=True):
        _check_same_field(paths[0], parts[0], path, part)
    first = parts[0]
    descriptions: list[dict[str, Any]] = []
    arrays: dict[str, np.ndarray] = {}
    for number, (path, part) in enumerate(zip(paths, parts, strict=True)):
        if not part.description:
            raise InfieldError(where=path, found="an operator without a description", expected="one that a file names")
        names = {name: f"part_{number + 1}_{name}" for name in part.arrays}
        descriptions.append(renamed(part.description, names))
        arrays |= {names[name]: values for name, values in part.arrays.items()}
    description = {"name": "stack", "operators": descriptions}
    operator: Any = build_operator(description, arrays, first.grid, len(first.channels))
    masks = [_Seen(part) for part in parts]
    models = []
    for path, part, size in zip(paths, parts, operator.sizes, strict=True):
        try:
            models.append(flat(part.noise, size, part.y.shape[1:]))
        except InfieldError as error:
            raise error.within(path) from error
    measurement = Measurement(
        y=torch.cat([part.y.flatten() for part in parts])[None, None],
        operator=operator,
        noise=stacked(models, operator.sizes),
        grid=first.grid,
        channels=first.channels,
        units=first.units,
        observed=stacked_observed(masks),
        truth=first.truth,
        description=description,
        arrays=arrays,
        data_units=first.data_units,
        context={name: known for part in reversed(parts) for name, known in part.context.items()},
        carried=first.carried,
    )
    counts = {path.name: part.count for path, part in zip(paths, parts, strict=True)}
    notes = (f"{len(parts)} instruments: " + ", ".join(f"{name} ({count} data)" for name, count in counts.items()),)
    dims = {"data": ("datum",)} | {name: _dims(name, values) for name, values in arrays.items()}
    return Converted(measurement, first.data_units, {}, None, dims, notes, {"data": measurement.count, "parts": counts})


class _Seen:
    """The interface that `stacked_observed` requires of a part."""

    def __init__(self, part: Measurement) -> None:
        self.observed, self.data_shape = part.observed, tuple(part.y.shape[1:])


def renamed(description: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """An operator's description whose variables have other names."""
    changed = dict(description)
    if isinstance(description.get("arrays"), Mapping):
        changed["arrays"] = {role: names[name] for role, name in description["arrays"].items()}
    if isinstance(description.get("operators"), list | tuple):
        changed["operators"] = [renamed(part, names) for part in description["operators"]]
    return changed


def _dims(name: str, values: np.ndarray) -> tuple[str, ...]:
    return tuple(f"{name}_{axis}" for axis in range(values.ndim))


def _check_same_field(path: Path, one: Measurement, other_path: Path, other: Measurement) -> None:
    if other.grid != one.grid:
        raise InfieldError(
            where=other_path, found=f"a field on {_words(other)}", expected=f"that of {path}, on {_words(one)}",
            remedy="convert a table onto the field of the other file ({onto})", parameters=["onto"],
        )  # fmt: skip
    if other.channels != one.channels:
        raise InfieldError(where=other_path, found=f"the field {other.channels}", expected=f"{one.channels}")
    pairs = ((one.units, other.units), (one.data_units, other.data_units))
    for mine, its in pairs:
        if mine not in NONE and its not in NONE and not same_units(mine, its):
            raise InfieldError(
                where=other_path, found=f"units '{its}'", expected=f"'{mine}', those of {path}",
                remedy="convert it anew with {convert}", parameters={"convert": mine},
            )  # fmt: skip


def _words(measurement: Measurement) -> str:
    grid = measurement.grid
    return f"{' x '.join(map(str, grid.shape))} points along ({', '.join(grid.names)})"
