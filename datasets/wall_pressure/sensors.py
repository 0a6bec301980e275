"""Sensors on a wall: a measurement of a wall-pressure plane at positions, at a random share of points, or on a
lattice."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import Generator, Tensor

from infield.core.errors import InfieldError
from infield.core.grid import Axis, Grid
from infield.datasets.formats.measurement import open_measurement, write_measurement
from infield.datasets.wall_pressure.plane_file import PRESSURE
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import GaussianNoise
from infield.physics.operators.registry import build_operator


@dataclass(frozen=True, eq=False)
class WallSensors:
    """Point sensors on a plane; between grid points they read the four around them, weighted (operator `points`).

    Arguments:
        grid: Axes (z, x) of the plane that is to be reconstructed, in nu/u_tau.
        array: Positions `(sensors, 2)` of z and x in nu/u_tau, or flat indices of grid points `(sensors,)`.
        words: Human-readable description of the layout.
    """

    grid: Grid
    array: np.ndarray
    words: str

    @classmethod
    def at(cls, grid: Grid, positions: np.ndarray) -> WallSensors:
        """Sensors at positions `(sensors, 2)` of z and x in nu/u_tau.

        Raises:
            InfieldError: There is none, or one lies outside the domain: on a periodic axis it is not wrapped, since
                a position beyond the period is more often a mistake in its units.
        """
        positions = np.asarray(positions, dtype=np.float64)
        if positions.ndim != 2 or positions.shape[1] != grid.ndim or len(positions) == 0:
            raise InfieldError(
                where="sensors", found=f"positions of shape {positions.shape}", expected=f"(sensors, {grid.ndim})"
            )
        for axis, column in zip(grid.axes, positions.T, strict=True):
            low, high = _extent(axis)
            outside = ~((column >= low) & (column <= high))
            if outside.any():
                i = int(outside.argmax())
                raise InfieldError(
                    where=f"sensors: sensor {i} lies outside the domain",
                    found=f"{axis.name} = {column[i]:g}",
                    expected=f"{low:g} to {high:g} ({axis.units})",
                    remedy="move or remove it, and check its units",
                )
        return cls(grid, positions, f"{len(positions)} sensors at given positions")

    @classmethod
    def random(cls, grid: Grid, share: float, seed: int) -> WallSensors:
        """Sensors on a share of the grid points, drawn without replacement.

        Raises:
            InfieldError: The share is none in (0, 1], or makes no sensor.
        """
        count = round(share * grid.size) if 0 < share <= 1 else 0
        if count < 1:
            raise InfieldError(
                where="sensors",
                found=f"a share of {share:g} of {grid.size} points",
                expected="at most 1, and at least one sensor",
            )
        chosen = torch.randperm(grid.size, generator=Generator().manual_seed(seed))[:count].sort().values.numpy()
        return cls(grid, chosen, f"{count} sensors, {100 * count / grid.size:.3g} % of the points, drawn at random")

    @classmethod
    def lattice(cls, grid: Grid, dz_plus: float, dx_plus: float) -> WallSensors:
        """Sensors on the grid points nearest to a lattice that starts at the first point.

        On a periodic axis, the lattice's spacing is the nearest one that divides the period.

        Raises:
            InfieldError: A spacing is below that of the grid or beyond the domain.
        """
        rows = []
        for axis, wanted in zip(grid.axes, (dz_plus, dx_plus), strict=True):
            length = axis.spacing * axis.size
            if not axis.spacing * (1 - 1e-6) <= wanted <= length:
                raise InfieldError(
                    where="sensors",
                    found=f"a lattice of spacing {wanted:g} along {axis.name}",
                    expected=f"{axis.spacing:g} to {length:g} {axis.units}",
                )
            count = round(length / wanted) if axis.periodic else int((length - axis.spacing) / wanted + 1e-9) + 1
            step = length / count if axis.periodic else wanted
            rows.append(np.unique(np.rint(np.arange(count) * step / axis.spacing).astype(int) % axis.size))
        chosen = np.ravel_multi_index(tuple(np.meshgrid(*rows, indexing="ij")), grid.shape).ravel()
        share = 100 * len(chosen) / grid.size
        return cls(grid, chosen, f"a lattice of {len(rows[0])} x {len(rows[1])} sensors, {share:.3g} % of the points")

    @property
    def count(self) -> int:
        return len(self.array)

    @property
    def share(self) -> float:
        """Number of sensors over number of points."""
        return self.count / self.grid.size

    def readings(self, y: Tensor, noise_std: float, truth: Tensor | None = None) -> Measurement:
        """The measurement whose data are given.

        Arguments:
            y: What the sensors read, p / (rho u_tau^2), shape `(sensors,)`.
            noise_std: Standard deviation of their independent Gaussian noise, in the same units.
            truth: The plane, `(z, x)`, where it is known.

        Raises:
            InfieldError: The noise is not above zero, or the readings are not as many finite numbers as sensors.
        """
        role = "coordinates" if self.array.ndim == 2 else "indices"
        description = {"name": "points", "parameters": {}, "arrays": {role: "sensors"}}
        arrays = {"sensors": self.array}
        return Measurement(
            y=y.to(torch.float64).reshape(1, 1, -1),
            operator=build_operator(description, arrays, self.grid, 1),
            noise=_noise(noise_std),
            grid=self.grid,
            channels=(PRESSURE,),
            units="1",
            truth=None if truth is None else truth.to(torch.float64)[None, None],
            description=description,
            arrays=arrays,
        )

    def measure(self, truth: Tensor, noise_std: float, seed: int) -> Measurement:
        """A measurement of a known plane `(z, x)`, with noise drawn from the seed, and the plane as its truth.

        Raises:
            InfieldError: The plane is of another shape, or the noise is not above zero.
        """
        if tuple(truth.shape) != self.grid.shape:
            raise InfieldError(
                where="sensors", found=f"a plane of shape {tuple(truth.shape)}", expected=self.grid.shape
            )
        exact = self.readings(torch.zeros(self.count), noise_std)
        seen = exact.operator.A(truth.to(torch.float64)[None, None])
        y = exact.noise.sample(seen, Generator().manual_seed(seed))
        return self.readings(y.flatten(), noise_std, truth)


def _noise(std: float) -> GaussianNoise:
    if not 0 < std < float("inf"):
        raise InfieldError(
            where="sensors", found=f"noise of standard deviation {std:g}", expected="a finite number above zero"
        )
    return GaussianNoise(torch.tensor(std**2, dtype=torch.float64))


def _extent(axis: Axis) -> tuple[float, float]:
    """First and last position of an axis; the last of a periodic one is where it meets the first."""
    first, last = axis.coordinates[0], axis.coordinates[-1] + (axis.spacing if axis.periodic else 0.0)
    slack = 1e-9 * axis.spacing
    return first - slack, last + slack


def write_wall_measurement(
    path: str | Path,
    measurement: Measurement,
    *,
    re_tau: float,
    synthetic: bool,
    words: str = "",
    history: str = "",
    overwrite: bool = False,
) -> None:
    """Write a measurement file that also names its flow: variables `Re_tau` and `synthetic`.

    Arguments:
        path: Directory to write.
        measurement: What `WallSensors` made.
        re_tau: Friction Reynolds number.
        synthetic: Whether the plane is a random field that stands in for a flow.
        words: How the sensors are laid out, for the title.
        history: Where the plane is from.
        overwrite: Whether an existing zarr group may be replaced.

    Raises:
        InfieldError: `path` exists, or the disk is full.
    """
    what = "Synthetic stand-in for wall pressure" if synthetic else "Wall pressure"
    extra = xr.Dataset(
        {
            "Re_tau": ((), np.float64(re_tau), {"long_name": "friction Reynolds number"}),
            "synthetic": ((), np.int8(synthetic), {"long_name": "1 for a random field that stands in for a flow"}),
        }
    )
    title = f"{what}, Re_tau {re_tau:g}" + (f": {words}" if words else "")
    write_measurement(path, measurement, overwrite=overwrite, title=title, history=history, extra=extra)


def measured_re_tau(path: str | Path) -> float | None:
    """The friction Reynolds number that a measurement file states; None where it states none. Old name of what a
    measurement's context holds."""
    context = open_measurement(path).context
    return context["Re_tau"].number if "Re_tau" in context else None
