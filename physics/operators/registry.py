"""Operators by the names that files use."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from infield.core import registry
from infield.core.errors import InfieldError
from infield.core.grid import Grid, PointSet
from infield.physics.operators.description import OperatorDescription
from infield.physics.operators.rebuilt import NAMED, check_rebuilt, generators_at

if TYPE_CHECKING:
    from deepinv.physics import Physics


def operator_names() -> tuple[str, ...]:
    """All names that `build_operator` accepts, and the pattern for those of deepinv."""
    return (*sorted((*registry.names("operators"), "compose", "stack", "sum")), f"{NAMED}<ClassName>")


def build_operator(
    description: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    grid: Grid | PointSet,
    channels: int,
    *,
    checked: bool = False,
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
        checked: Whether operators of other packages are taken as they are, since a fingerprint will be compared; if
            not, they are built twice and tested, see `operators.rebuilt`.

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
        return _build_composite(name, description, arrays, grid, channels, checked)
    if name.startswith(NAMED):
        from infield.physics.operators.deepinv import build_deepinv as build
    elif registry.known("operators", name):
        build = registry.load("operators", name)
    else:
        raise InfieldError(where="operator", found=f"name '{name}'", expected=f"one of {_listed()}")
    parsed = OperatorDescription.parse(description, arrays, grid, channels, checked)
    if checked or name.startswith(NAMED) or registry.find("operators", name).package == registry.HOUSE:
        return build(parsed)
    return _built_twice(build, parsed)


def _built_twice(build: Callable[[OperatorDescription], Physics], description: OperatorDescription) -> Physics:
    """An operator of another package, refused where it is not the same each time."""
    with generators_at(0):
        operator = build(description)
    with generators_at(1):
        twin = build(description)
    name, shape = description.name, (description.channels, *description.grid.shape)
    try:
        check_rebuilt(registry.find("operators", name).origin, operator, twin, shape, "give them as arrays")
    except InfieldError as error:
        raise error.within(f"operator '{name}'") from error
    return operator


def _listed() -> str:
    return ", ".join(operator_names())


def _build_composite(
    name: str,
    description: Mapping[str, Any],
    arrays: Mapping[str, np.ndarray],
    grid: Grid | PointSet,
    channels: int,
    checked: bool,
) -> Physics:
    from infield.physics.operators.composition import build_sum, compose
    from infield.physics.operators.stack import stack

    entries = {"name", "operators"} | ({"weights"} if name == "sum" else set())
    parts = description.get("operators")
    if set(description) != entries or not isinstance(parts, list | tuple) or not parts:
        found, expected = sorted(description), sorted(entries)
        raise InfieldError(where=f"operator '{name}'", found=found, expected=f"{expected} with a list of operators")
    if name in ("stack", "sum"):
        beside = [build_operator(part, arrays, grid, channels, checked=checked) for part in parts]
        return stack(*beside) if name == "stack" else build_sum(description["weights"], beside)
    operators: list[Physics] = []
    for part in reversed(parts):  # each acts on the data of the one behind it
        operators.insert(0, build_operator(part, arrays, grid, channels, checked=checked))
        grid, channels = operators[0].data_grid, operators[0].data_shape[0]
    return compose(*operators)
