"""Fields of other files on the grid of a measurement: what the unknown field may depend on, such as heights."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from infield.core.errors import InfieldError
from infield.core.grid import Axis, Grid
from infield.datasets.tables.axes import kind_of
from infield.datasets.tables.dataset import open_dataset, valid
from infield.physics.context import Quantity
from infield.physics.units import CIRCLE, LONGITUDE


def on_grid(name: str, path: Path, grid: Grid) -> Quantity:
    """A gridded variable of a file, by multilinear interpolation; up to one cell of the grid beyond its edge the edge.

    Raises:
        InfieldError: There is no such variable, its axes are not those of the grid, it does not cover it, or it has
            gaps there.
    """
    from scipy.interpolate import RegularGridInterpolator  # a second of imports, for covariates alone

    dataset = open_dataset(path)
    if name not in dataset.data_vars:
        found = ", ".join(map(str, dataset.data_vars)) or "no variable"
        raise InfieldError(where=f"{path}: '{name}'", found=found, expected="this variable")
    values = dataset[name].squeeze(drop=True)
    dims = [_dim_of(axis, values, path, name) for axis in grid.axes]
    if set(dims) != set(values.dims):
        raise InfieldError(where=f"{path}: '{name}'", found=f"along {values.dims}", expected=f"along {grid.names}")
    values = values.transpose(*dims).sortby(dims)
    lines = [values[dim].to_numpy().astype(float) for dim in dims]
    places = [_within(axis, line, path, name) for axis, line in zip(grid.axes, lines, strict=True)]
    mesh = np.stack(np.meshgrid(*places, indexing="ij"), -1)
    found = RegularGridInterpolator(lines, valid(values))(mesh)
    gaps = int(np.isnan(found).sum())
    if gaps:
        raise InfieldError(
            where=f"{path}: '{name}'", found=f"no value at {gaps} of {found.size} points of the grid",
            expected="one everywhere: a covariate is known where the field is wanted",
        )  # fmt: skip
    return Quantity(torch.from_numpy(found)[None, None], str(dataset[name].attrs.get("units", "1")))


def _dim_of(axis: Axis, values: object, path: Path, name: str) -> str:
    coordinates = values.coords  # type: ignore[attr-defined]
    kind = kind_of(axis.name, {"units": axis.units})
    for dim in values.dims:  # type: ignore[attr-defined]
        own = kind_of(dim, coordinates[dim].attrs) if dim in coordinates else "other"
        if dim == axis.name or own == kind != "other":
            return str(dim)
    raise InfieldError(
        where=f"{path}: '{name}'", found=f"axes {', '.join(map(str, values.dims))}",  # type: ignore[attr-defined]
        expected=f"'{axis.name}' ({axis.units}) among them", remedy="with degrees in it, leave {project} out",
        parameters=["project"],
    )  # fmt: skip


def _within(axis: Axis, line: np.ndarray, path: Path, name: str) -> np.ndarray:
    """Positions of the grid in the file's own range."""
    places = np.asarray(axis.coordinates, dtype=float)
    if axis.units in LONGITUDE:
        places = line[0] - axis.spacing + np.mod(places - line[0] + axis.spacing, CIRCLE)
    beyond = max(float((line[0] - places).max()), float((places - line[-1]).max()))
    if beyond > 1.001 * axis.spacing:
        raise InfieldError(
            where=f"{path}: '{name}'", found=f"'{axis.name}' from {line[0]:g} to {line[-1]:g}",
            expected=f"it to cover {axis.coordinates[0]:g} to {axis.coordinates[-1]:g}",
        )  # fmt: skip
    return np.clip(places, line[0], line[-1])
