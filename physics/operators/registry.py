"""Operators by the names that files use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from infield.core import registry
from infield.core.errors import InfieldError
from infield.core.grid import Grid, PointSet
from infield.physics.operators.description import OperatorDescription

if TYPE_CHECKING:
    from deepinv.physics import Physics

NAMED = "deepinv:"
"""Prefix of the names of deepinv's operators; the name of the class follows."""


def operator_names() -> tuple[str, ...]:
    """All names that `build_operator` accepts, and the pattern for those of deepinv."""
    return (*sorted((*registry.names("operators"), "compose", "stack", "sum")), f"{NAMED}<ClassName>")


def build_operator(
    description: Mapping[str, Any], arrays: Mapping[str, np.ndarray], grid: Grid | PointSet, channels: int
) -> Physics:
    """The operator that a file describes.

    Arguments:
        description: `{"name": "mask", "parameters": {}, "arrays": {"mask": NAME}}` with the names of variables;
            `{"name": "compose", "operators": [outermost, ..., innermost]}`;
            `{"name": "sum", "weights": [...], "operators": [...]}`;
            `{"name": "stack", "operators": [...]}`.
        arrays: Variables by name.
        grid: Grid of the field.
        channels: Number of channels of the field.

    Returns:
        The operator, a `LinearPhysics` where it is linear, in float64, with `name`, `grid`, `channels`, `data_shape`,
        `data_grid` and `observed`.

    Raises:
        InfieldError: If the description is unknown, incomplete or does not fit the arrays or the grid.
    """
    if not isinstance(description, Mapping) or not isinstance(description.get("name"), str):
        raise InfieldError(where="operator", found=f"{description!r}", expected=f"an entry 'name', one of {_listed()}")
    name = description["name"]
    if name in ("compose", "stack", "sum"):
        return _build_composite(name, description, arrays, grid, channels)
    if name.startswith(NAMED):
        from infield.physics.operators.deepinv import build_deepinv as build
    elif registry.known("operators", name):
        build = registry.load("operators", name)
    else:
        raise InfieldError(where="operator", found=f"name '{name}'", expected=f"one of {_listed()}")
    return build(OperatorDescription.parse(description, arrays, grid, channels))


def _listed() -> str:
    return ", ".join(operator_names())


def _build_composite(
    name: str, description: Mapping[str, Any], arrays: Mapping[str, np.ndarray], grid: Grid | PointSet, channels: int
) -> Physics:
    from infield.physics.operators.composition import build_sum, compose
    from infield.physics.operators.stack import stack

    entries = {"name", "operators"} | ({"weights"} if name == "sum" else set())
    parts = description.get("operators")
    if set(description) != entries or not isinstance(parts, list | tuple) or not parts:
        found, expected = sorted(description), sorted(entries)
        raise InfieldError(where=f"operator '{name}'", found=found, expected=f"{expected} with a list of operators")
    if name in ("stack", "sum"):
        beside = [build_operator(part, arrays, grid, channels) for part in parts]
        return stack(*beside) if name == "stack" else build_sum(description["weights"], beside)
    operators: list[Physics] = []
    for part in reversed(parts):  # each acts on the data of the one behind it
        operators.insert(0, build_operator(part, arrays, grid, channels))
        grid, channels = operators[0].data_grid, operators[0].data_shape[0]
    return compose(*operators)
