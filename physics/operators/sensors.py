"""Operators that observe a field at points: a mask on the grid, and point sensors anywhere."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infield.core.errors import InfieldError
from infield.core.grid import Axis, Grid, PointSet
from infield.physics.operators.base import LinearOperator
from infield.physics.operators.description import OperatorDescription
from infield.physics.units import CIRCLE, LONGITUDE

DENSE = 3000
"""Maximum number of observed points for which their dense covariance is formed: conjugate gradients take several times
as long, and leave an error of one per cent in single precision."""


class Mask(LinearOperator):
    """The field where it is observed, zero elsewhere; unobserved values may be NaN.

    Arguments:
        grid: Grid of the field.
        channels: Number of channels.
        mask: Bool, shape `space` or `(channel, *space)`.
    """

    name = "mask"
    observed: Tensor
    row_power = 1.0

    def __init__(self, grid: Grid | PointSet, channels: int, mask: Tensor) -> None:
        shape = (channels, *grid.shape)
        super().__init__(grid, channels, shape, grid, mask.expand(shape).clone())

    def A(self, x: Tensor) -> Tensor:
        return torch.where(self.observed, x, torch.zeros_like(x))

    def A_adjoint(self, y: Tensor) -> Tensor:
        return self.A(y)

    def prox_stationary(self, z: Tensor, y: Tensor, power: Tensor, noise: float, **settings: Any) -> Tensor:
        """As `LeastSquaresMixin`; by Cholesky factorisation if few points are observed, the same in every channel."""
        seen = self.observed[0]
        count = int(seen.sum())
        if seen.shape != power.shape or not 0 < count <= DENSE or not bool((self.observed == seen).all()):
            return super().prox_stationary(z, y, power, noise, **settings)
        axes, places = tuple(range(-power.ndim, 0)), seen.flatten().nonzero()[:, 0]
        # the covariance of two points depends on their separation
        far = torch.fft.ifftn(power.to(torch.float64), dim=axes).real.to(z)
        place, middle = torch.zeros_like(places), 0
        for step, n in zip(torch.unravel_index(places, seen.shape), seen.shape, strict=True):
            place, middle = place * (2 * n) + step, middle * (2 * n) + n
        K = far.repeat([2] * far.ndim).flatten()[(place + middle)[:, None] - place]
        K.diagonal().add_(noise**2)
        factor, failed = torch.linalg.cholesky_ex(K)
        if failed:  # less noise than rounding
            return super().prox_stationary(z, y, power, noise, **settings)
        right = (y - self.A(z)).flatten(2)[..., places]
        w = torch.zeros_like(z)
        w.flatten(2)[..., places] = torch.cholesky_solve(right.flatten(0, 1).T, factor).T.reshape(right.shape)
        return z + torch.fft.irfftn(_half(power).to(z) * torch.fft.rfftn(w, dim=axes), power.shape, axes)


def _half(power: Tensor) -> Tensor:
    """Restrict a power spectrum to the wavenumbers of the real transform."""
    return power[..., : power.shape[-1] // 2 + 1]


class PointSensors(LinearOperator):
    """Weighted sums of a few grid points for each sensor: its own grid point, or the corners of its cell.

    Arguments:
        grid: Grid of the field.
        channels: Number of channels.
        corners: Flat indices of the grid points around a sensor, shape `(corners, sensors)`.
        weights: Their weights, float64, same shape.
        sensors: Positions of the sensors.
    """

    name = "points"
    corners: Tensor
    weights: Tensor

    def __init__(
        self, grid: Grid | PointSet, channels: int, corners: Tensor, weights: Tensor, sensors: PointSet
    ) -> None:
        super().__init__(grid, channels, (channels, corners.shape[1]), sensors)
        self.register_buffer("corners", corners)
        self.register_buffer("weights", weights)
        if len(corners) == 1 and corners.unique().numel() == corners.numel() and bool((weights == 1).all()):
            self.row_power = 1.0

    @classmethod
    def at_indices(cls, grid: Grid | PointSet, channels: int, indices: Tensor) -> PointSensors:
        """Sensors on grid points, given by their flat indices (last axis fastest).

        Raises:
            InfieldError: If an index lies outside the grid.
        """
        outside = (indices < 0) | (indices >= grid.size)
        if outside.any():
            sensor = int(outside.nonzero()[0])
            raise InfieldError(
                where="operator 'points'",
                found=f"index {int(indices[sensor])} of sensor {sensor}",
                expected=f"0 to {grid.size - 1}",
            )
        places = _point_set(grid, grid.points()[indices])
        return cls(grid, channels, indices[None], torch.ones(1, len(indices), dtype=torch.float64), places)

    @classmethod
    def at_coordinates(cls, grid: Grid, channels: int, coordinates: Tensor) -> PointSensors:
        """Sensors anywhere in the domain, by multilinear interpolation; periodic axes wrap.

        Beyond the outermost points, but in their cells, a sensor reads the field as on the boundary.

        Arguments:
            grid: Grid of the field.
            channels: Number of channels.
            coordinates: Positions `(sensors, ndim)` in the units of the axes.

        Raises:
            InfieldError: If a sensor lies outside the domain of an axis that is not periodic.
        """
        cells = [_cell(axis, coordinates[:, i].numpy()) for i, axis in enumerate(grid.axes)]
        corners, weights = [], []
        for corner in itertools.product((0, 1), repeat=grid.ndim):
            places = [upper if side else lower for side, (lower, upper, _) in zip(corner, cells, strict=True)]
            shares = [f if side else 1 - f for side, (_, _, f) in zip(corner, cells, strict=True)]
            corners.append(torch.from_numpy(np.ravel_multi_index(places, grid.shape)))
            weights.append(torch.from_numpy(np.prod(shares, axis=0)))
        return cls(grid, channels, torch.stack(corners), torch.stack(weights), _point_set(grid, coordinates))

    def A(self, x: Tensor) -> Tensor:
        return (x.flatten(2)[:, :, self.corners] * self.weights).sum(2)

    def A_adjoint(self, y: Tensor) -> Tensor:
        spread = (y[:, :, None] * self.weights).flatten(2)
        flat = spread.new_zeros(*y.shape[:2], self.grid.size).index_add(2, self.corners.flatten(), spread)
        return flat.reshape(*y.shape[:2], *self.grid.shape)


def _point_set(grid: Grid | PointSet, coordinates: Tensor) -> PointSet:
    units = {axis.units for axis in grid.axes} if isinstance(grid, Grid) else {grid.units}
    places = tuple(tuple(row) for row in coordinates.tolist())
    return PointSet(places, grid.names, units.pop() if len(units) == 1 else "1", "sensor")


def _cell(axis: Axis, positions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Lower and upper grid index around each position, and how far it lies between them (0 to 1)."""
    knots = np.asarray(axis.coordinates)
    if axis.periodic:
        knots = np.append(knots, knots[-1] + axis.spacing)
        positions = knots[0] + np.mod(positions - knots[0], knots[-1] - knots[0])
    else:
        slack = (0.5 + 1e-9) * axis.spacing  # half a cell, and rounding at its boundary
        if axis.units in LONGITUDE:  # the same place one turn on
            middle = (knots[0] + knots[-1]) / 2
            beyond = (positions < knots[0] - slack) | (positions > knots[-1] + slack)
            turned = middle + np.mod(positions - middle + CIRCLE / 2, CIRCLE) - CIRCLE / 2
            positions = np.where(beyond, turned, positions)
        outside = (positions < knots[0] - slack) | (positions > knots[-1] + slack)
        if outside.any():
            sensor = int(outside.nonzero()[0][0])
            raise InfieldError(
                where=f"operator 'points': sensor {sensor} lies outside the domain",
                found=f"{axis.name} = {positions[sensor]}",
                expected=f"{knots[0] - axis.spacing / 2} to {knots[-1] + axis.spacing / 2} ({axis.units})",
                remedy="move or remove it",
            )
        positions = np.clip(positions, knots[0], knots[-1])
    if len(knots) == 1:
        zero = np.zeros(len(positions), dtype=np.int64)
        return zero, zero, np.zeros(len(positions))
    lower = np.clip(np.searchsorted(knots, positions, side="right") - 1, 0, len(knots) - 2)
    fraction = (positions - knots[lower]) / (knots[lower + 1] - knots[lower])
    return lower, (lower + 1) % axis.size, fraction


def build_mask(description: OperatorDescription) -> Mask:
    description.expect(arrays=("mask",))
    space = description.grid.shape
    return Mask(description.grid, description.channels, description.mask(space, (description.channels, *space)))


def build_points(description: OperatorDescription) -> PointSensors:
    description.expect(arrays=("coordinates", "indices"))
    grid, channels = description.grid, description.channels
    if len(description.arrays) != 1:
        raise description.error(found=f"the arrays {sorted(description.arrays)}", expected="coordinates or indices")
    if "indices" in description.arrays:
        indices = description.array("indices")
        if indices.ndim != 1 or indices.dtype.kind not in "iu" or indices.size == 0:
            raise description.error(
                found=f"indices {indices.dtype} of shape {indices.shape}", expected="integers (sensors,)"
            )
        return PointSensors.at_indices(grid, channels, torch.from_numpy(indices.astype(np.int64)))
    if not isinstance(grid, Grid):
        raise description.error(found="coordinates for a field on scattered points", expected="indices of its points")
    coordinates = description.array("coordinates")
    if coordinates.ndim == 2 and len(coordinates) == 0:
        raise description.error(found="no sensor", expected="the coordinates of at least one")
    if coordinates.ndim != 2 or coordinates.shape[1] != grid.ndim:
        raise description.error(found=f"coordinates of shape {coordinates.shape}", expected=f"(sensors, {grid.ndim})")
    return PointSensors.at_coordinates(grid, channels, torch.from_numpy(coordinates.astype(np.float64)))
