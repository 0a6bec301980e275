"""The names under which a file asks for an operator."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from infield import InfieldError
from infield.core.grid import Grid, PointSet
from infield.physics.operators.description import OperatorDescription

if TYPE_CHECKING:
    from deepinv.physics import Physics

_BUILDERS = {  # imported when asked for: deepinv takes seconds
    "affine": ("infield.physics.operators.composition", "build_affine"),
    "convolution": ("infield.physics.operators.convolution", "build_convolution"),
    "darcy": ("infield.physics.pde.darcy", "build_darcy"),
    "fourier": ("infield.physics.operators.fourier", "build_fourier"),
    "helmholtz": ("infield.physics.pde.elliptic", "build_helmholtz"),
    "interferometer": ("infield.physics.cm21.interferometer", "build_interferometer"),
    "mask": ("infield.physics.operators.sensors", "build_mask"),
    "multicoil-mri": ("infield.physics.mri.multicoil", "build_multicoil_mri"),
    "multicoil-mri-slices": ("infield.physics.mri.multicoil", "build_multicoil_slices"),
    "navier-stokes": ("infield.physics.pde.navier_stokes", "build_navier_stokes"),
    "phases": ("infield.physics.operators.level_set", "build_phases"),
    "points": ("infield.physics.operators.sensors", "build_points"),
    "poisson": ("infield.physics.pde.elliptic", "build_poisson"),
    "window": ("infield.physics.operators.crop", "build_window"),
}
_NAMED = ("infield.physics.operators.deepinv", "build_named")


def operator_names() -> tuple[str, ...]:
    """All names that `build_operator` knows, with the pattern for those of deepinv."""
    return (*sorted((*_BUILDERS, "compose", "sum")), "deepinv:<ClassName>")


def build_operator(
    description: Mapping[str, Any], arrays: Mapping[str, np.ndarray], grid: Grid | PointSet, channels: int
) -> Physics:
    """The operator that a file describes.

    Arguments:
        description: `{"name": "mask", "parameters": {}, "arrays": {"mask": NAME}}` with the names of variables;
            `{"name": "compose", "operators": [outermost, ..., innermost]}`;
            `{"name": "sum", "weights": [...], "operators": [...]}`.
        arrays: Variables by name.
        grid: Where the field lives.
        channels: Number of channels of the field.

    Returns:
        The operator, a `LinearPhysics` where it is linear, in float64, with `name`, `grid`, `channels`, `data_shape`,
        `data_grid` and `observed`.

    Raises:
        InfieldError: If the description is unknown, incomplete or does not fit the arrays or the grid.
    """
    if not isinstance(description, Mapping) or not isinstance(description.get("name"), str):
        raise InfieldError(f"operator: found {description!r}, expected an entry 'name', one of {_listed()}")
    name = description["name"]
    if name in ("compose", "sum"):
        return _build_composite(name, description, arrays, grid, channels)
    if name not in _BUILDERS and not name.startswith("deepinv:"):
        raise InfieldError(f"operator: found name '{name}', expected one of {_listed()}")
    module, builder = _BUILDERS.get(name, _NAMED)
    build = getattr(importlib.import_module(module), builder)
    return build(OperatorDescription.parse(description, arrays, grid, channels))


def _listed() -> str:
    return ", ".join(operator_names())


def _build_composite(
    name: str, description: Mapping[str, Any], arrays: Mapping[str, np.ndarray], grid: Grid | PointSet, channels: int
) -> Physics:
    from infield.physics.operators.composition import build_sum, compose

    entries = {"name", "operators"} | ({"weights"} if name == "sum" else set())
    parts = description.get("operators")
    if set(description) != entries or not isinstance(parts, list | tuple) or not parts:
        found, expected = sorted(description), sorted(entries)
        raise InfieldError(f"operator '{name}': found {found}, expected {expected} with a list of operators")
    if name == "sum":
        return build_sum(description["weights"], [build_operator(part, arrays, grid, channels) for part in parts])
    operators: list[Physics] = []
    for part in reversed(parts):  # each acts on the data of the one behind it
        operators.insert(0, build_operator(part, arrays, grid, channels))
        grid, channels = operators[0].data_grid, operators[0].data_shape[0]
    return compose(*operators)
