"""Fields that vanish on the boundary of a rectangle: the grids that they need, and their Laplacian by sine series."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from infield.core.errors import InfieldError
from infield.core.grid import Grid, PointSet


def check_dirichlet_grid(operator: str, grid: Grid | PointSet) -> Grid:
    """Return the grid if an equation with homogeneous Dirichlet conditions can be posed on it.

    Arguments:
        operator: Name of the operator, for the message.
        grid: The first and last points along each axis are the boundary.

    Raises:
        InfieldError: The grid is not regular, uniform and non-periodic, has fewer than 3 points along an axis, or axes
            in different units.
    """
    if not isinstance(grid, Grid):
        raise InfieldError(
            where=f"operator '{operator}'",
            found="a field on scattered points",
            expected="one on a regular grid with its boundary",
        )
    for axis in grid.axes:
        where = f"along axis '{axis.name}'"
        if axis.periodic:
            raise InfieldError(
                where=f"operator '{operator}'", found=f"a periodic grid {where}", expected="one with a boundary"
            )
        if axis.size < 3:
            raise InfieldError(
                where=f"operator '{operator}'", found=f"{axis.size} points {where}", expected="at least 3"
            )
        if not axis.uniform:
            raise InfieldError(where=f"operator '{operator}'", found=axis.spacings, expected="even ones")
    units = [axis.units for axis in grid.axes]
    if len(set(units)) > 1:
        raise InfieldError(
            where=f"operator '{operator}'", found=f"axes in {', '.join(units)}", expected="one unit for all"
        )
    return grid


def interior(x: Tensor, ndim: int) -> Tensor:
    """Remove the boundary: `n - 2` points along each of the last axes."""
    inside: tuple[Any, ...] = (slice(1, -1),) * ndim
    return x[(..., *inside)]


def pad_boundary(x: Tensor, ndim: int) -> Tensor:
    """Add a boundary of zeros; the adjoint of `interior`."""
    return torch.nn.functional.pad(x, (1, 1) * ndim)


def laplacian_eigenvalues(grid: Grid) -> Tensor:
    """Eigenvalues of minus the second-order Laplacian on the interior points, positive, in the order of the sine modes.

    Returns:
        Shape of the interior, float64, in 1 / (units of the grid) squared.
    """
    total = torch.zeros(())
    for axis in grid.axes:
        k = torch.arange(1, axis.size - 1, dtype=torch.float64)
        along = (2 / axis.spacing * torch.sin(torch.pi * k / (2 * (axis.size - 1)))) ** 2
        total = total[..., None] + along
    return total
