"""A conditional prior of 21 cm lightcones: at any parameters in its range, on any part of its line of sight."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Generator, Tensor

from infield.core.brief import Brief
from infield.core.errors import InfieldError
from infield.core.grid import Grid, PointSet
from infield.core.renamed import old_names
from infield.priors.cm21.box_repeats import BoxRepeatNetwork
from infield.priors.cm21.emulator import ConditionedEmulator, Emulator
from infield.priors.cm21.flow import LightconeFlow, Profiles
from infield.priors.cm21.ionised_zeros import zero_ionised
from infield.priors.cm21.linear_correction import LinearCorrection
from infield.priors.cm21.slice_spectra import SliceSpectra
from infield.priors.cm21.slice_statistics import SliceStatistics
from infield.priors.cm21.voxel_transform import VoxelTransform
from infield.priors.cm21.whitening import WhiteningTransform, vecchia_whitening
from infield.priors.integrator import GaussianFlow, integrate
from infield.priors.networks.local_unet import LocalUNet

if not TYPE_CHECKING:
    __getattr__ = old_names(__name__)

FLOW_STEPS = 8
"""Default number of steps of the flow, and network calls per lightcone; nearer to the path than 15 calls of Heun's
method."""


@dataclass(frozen=True, kw_only=True, repr=False)
class LightconePrior(Brief):
    """Lightcones given astrophysical parameters.

    Arguments:
        name: Name in reports.
        network: F of `priors.cm21.flow`.
        statistics: mu and sigma of slices.
        spectra: Spectra of the remainder.
        repeats: Decorrelation between repetitions of the box; None if a box is as long as a lightcone.
        linear_part: Linear correction of F along the field.
        drawn: Amplitudes of what is drawn beside those of the spectra (`priors.cm21.power_correction`).
        transform: Map from mK to values, and back.
        ranges: Parameters by 21cmFAST's names, and the range of each in training; none for cones of the whole range
            without a condition.
        cell: Spacing of all axes in Mpc.
        points: Cells across in training; other numbers are supported, since x and y are periodic.
        distance: Comoving distances of the cells of the line of sight in Mpc, ascending.
        redshift: Redshifts of the same cells.
        provenance: Origin of its numbers, in JSON types.
        emulator: Emulator, if trained: lightcones in one call of a small network, from initial conditions.
        sha256: Digest of the file that it was read from.
    """

    name: str
    network: LocalUNet
    statistics: SliceStatistics
    spectra: SliceSpectra
    repeats: BoxRepeatNetwork | None
    linear_part: LinearCorrection
    drawn: SliceSpectra
    transform: VoxelTransform
    ranges: Mapping[str, tuple[float, float]]
    cell: float
    points: tuple[int, int]
    distance: np.ndarray
    redshift: np.ndarray
    provenance: Mapping[str, Any]
    emulator: Emulator | None = None
    sha256: str = ""

    def about(self) -> dict[str, object]:
        """What a short description shows."""
        ranges = ", ".join(f"{name} {low:g} to {high:g}" for name, (low, high) in self.ranges.items())
        return {
            "name": repr(self.name),
            "conditioned on": ranges or "nothing",
            "fields": f"{(*self.points, len(self.distance))} of {self.cell:g} Mpc in mK",
            "redshift": f"{self.redshift.min():.2f} to {self.redshift.max():.2f}",
            "emulator": "yes" if self.emulator is not None else "no",
        }

    @property
    def conditioned_on(self) -> dict[str, str]:
        """Names and units of the parameters, by 21cmFAST's names."""
        return dict.fromkeys(self.ranges, "1")

    def theta(self, parameters: Mapping[str, float], *, extrapolate: bool = False) -> Tensor:
        """Parameters in [0, 1], shape `(parameters,)`.

        Raises:
            InfieldError: A name is missing or unknown, or a value is not finite or, without `extrapolate`, outside the
            range of training.
        """
        unknown, missing = sorted(set(parameters) - set(self.ranges)), sorted(set(self.ranges) - set(parameters))
        if unknown or missing:
            expected = ", ".join(self.ranges) or "none"
            found = f"unknown {unknown[0]}" if unknown else f"no {missing[0]}"
            raise InfieldError(where="parameters", found=found, expected=expected)
        theta = []
        for name, (low, high) in self.ranges.items():
            value = float(parameters[name])
            if not math.isfinite(value) or (not low <= value <= high and not extrapolate):
                raise InfieldError(
                    where=f"parameter {name}",
                    found=f"{value:g}",
                    expected=f"{low:g} to {high:g}, the range of training",
                    remedy="allow it by {extrapolate}",
                    parameters={"extrapolate": True},
                )
            theta.append((value - low) / (high - low))
        return torch.tensor(theta, dtype=torch.float64)

    def at(
        self,
        parameters: Mapping[str, float],
        *,
        points: tuple[int, int] | None = None,
        cells: slice | None = None,
        extrapolate: bool = False,
    ) -> LightconeFlow:
        """The prior of cones at these parameters, on a part of the line of sight.

        Where the transform is linear, its fields are the temperature in mK and the place of the ionised region.

        Arguments:
            parameters: By 21cmFAST's names.
            points: Cells across; those of training where not given.
            cells: Cells of the line of sight; all by default.
            extrapolate: Whether parameters outside the range of training are taken.

        Raises:
            InfieldError: As `theta`; or the part of the line of sight is empty.
        """
        theta = self.theta(parameters, extrapolate=extrapolate)
        cells = cells or slice(None)
        s = torch.linspace(0, 1, len(self.distance), dtype=torch.float64)[cells][None]
        if s.numel() == 0:
            raise InfieldError(
                where="line of sight", found=f"no cell in {cells}", expected=f"some of {len(self.distance)}"
            )
        return self.on(theta, s, points or self.points)

    def for_field(
        self, grid: Grid | PointSet, channels: Sequence[str], parameters: Mapping[str, float]
    ) -> LightconeFlow:
        """The prior of a field on a grid at parameters.

        Arguments:
            grid: Grid of the field: x, y and comoving distance in Mpc.
            channels: Channels of the field; one.
            parameters: By 21cmFAST's names.

        Raises:
            InfieldError: As `at` and `cells_of`; or a parameter is missing, or the field is of another kind.
        """
        if not isinstance(grid, Grid):
            raise InfieldError(found="a field on scattered points", expected="one on a grid")
        if len(channels) != 1 or [axis.units for axis in grid.axes] != ["Mpc"] * 3:
            raise InfieldError(
                found=f"a field on {', '.join(f'{axis.name} in {axis.units}' for axis in grid.axes)}",
                expected="brightness temperatures on x, y and a comoving distance in Mpc",
            )
        missing = [name for name in self.ranges if name not in parameters]
        if missing:
            low, high = self.ranges[missing[0]]
            raise InfieldError(
                found=f"no value of {missing[0]}",
                expected=f"{{at}} {missing[0]}=VALUE, {low:g} to {high:g}",
                parameters=["at"],
            )
        cells = self.cells_of([axis.coordinates for axis in grid.axes])
        return self.at(parameters, points=(grid.shape[0], grid.shape[1]), cells=cells)

    def cells_of(self, axes: Sequence[Sequence[float]]) -> slice:
        """The cells of the line of sight that a field's grid is made of.

        Arguments:
            axes: Coordinates along x, y and the line of sight, in Mpc.

        Raises:
            InfieldError: The grid has other cells, or lies beyond the line of sight.
        """
        for name, coordinates in zip("x y los".split(), axes, strict=True):
            steps = np.diff(coordinates)
            if np.abs(steps / self.cell - 1).max() > 1e-3:
                raise InfieldError(found=f"cells of {steps.mean():g} Mpc along {name}", expected=f"{self.cell:g}")
        distance = np.array(axes[2])
        first = int(np.abs(self.distance - distance[0]).argmin())
        cells = slice(first, first + len(distance))
        known = self.distance[cells]
        if len(known) < len(distance) or np.abs(known - distance).max() > self.cell / 4:
            raise InfieldError(
                found=f"a line of sight from {distance[0]:.1f} to {distance[-1]:.1f} Mpc",
                expected=(
                    f"cells within {self.distance[0]:.1f} to {self.distance[-1]:.1f} Mpc (z {self.redshift[0]:.2f} to "
                    f"{self.redshift[-1]:.2f})"
                ),
            )
        return cells

    def on(
        self, theta: Tensor, s: Tensor, points: tuple[int, int], device: torch.device | str = "cpu"
    ) -> LightconeFlow:
        """The prior at places s `(1, los)` in [0, 1], and parameters in [0, 1], shape `(parameters,)`; or of several
        cones at a time, `(cones, parameters)`, one field each, with the same places or each its own, `(cones, los)`.
        Fields are on `device`."""
        place = next(self.statistics.parameters()).device
        each = theta.reshape(-1, theta.shape[-1]).float().to(place)
        given = each, s.float().to(place).expand(len(each), -1)
        mu, sigma = (part.double().to(device) for part in self.statistics(*given))
        amplitudes, drawn = self.spectra(*given), self.drawn(*given)
        of_units = torch.cat([amplitudes[:, : drawn.shape[1]] / drawn, amplitudes[:, drawn.shape[1] :]], dim=1)
        repeats = None if self.repeats is None else self.repeats.of(*given).to(device)
        to_units = self.transform
        gain = torch.ones(len(to_units.channels), 1, 1, 1, dtype=torch.float64, device=device)
        offset = torch.zeros_like(gain)
        if to_units.affine:
            gain[0], offset[0] = to_units.scale / to_units.amplitude, to_units.mean
        shift, scale = (part[:, :, None, None] for part in (mu, sigma))
        if theta.ndim == 1:
            shift, scale, amplitudes, of_units = shift[0], scale[0], amplitudes[0], of_units[0]
        innovations = vecchia_whitening(amplitudes.to(device), points, repeats)
        before = innovations.before[None]
        return LightconeFlow(
            name=self.name,
            network=self.network,
            linear_part=self.linear_part,
            theta=theta,
            profiles=Profiles(s.to(device).expand(len(mu), -1), mu, sigma, before.to(device).expand(len(mu), -1)),
            innovations=innovations,
            standardisation=WhiteningTransform(
                offset + gain * shift, gain * scale, of_units.to(device), points, repeats
            ),
            units="mK" if to_units.affine else "1",
            sha256=self.sha256,
        )

    def draw(
        self,
        parameters: Mapping[str, float],
        generator: Generator,
        *,
        n: int = 1,
        points: tuple[int, int] | None = None,
        cells: slice | None = None,
        steps: int | None = None,
        extrapolate: bool = False,
    ) -> Tensor:
        """Lightcones `(n, x, y, los)` in mK, float32, exactly 0 where ionised; of the emulator, in one network call per
        lightcone, or of the flow, in one per step.

        Arguments:
            parameters: By 21cmFAST's names.
            generator: Generator of the source, or of initial conditions.
            n: Number of lightcones.
            points, cells, extrapolate: As in `at`.
            steps: Steps of the flow; None for the emulator if there is one, else for `FLOW_STEPS`.

        Raises:
            InfieldError: As `at`.
        """
        if self.uses_emulator(steps):
            theta = self.theta(parameters, extrapolate=extrapolate)
            return self.conditioned_emulator(theta, points, cells).draw(generator, n)
        flow = self.at(parameters, points=points, cells=cells, extrapolate=extrapolate)
        return self.integrate(flow, generator, n, steps or FLOW_STEPS)

    def conditioned_emulator(
        self,
        theta: Tensor,
        points: tuple[int, int] | None = None,
        cells: slice | None = None,
        depth: int | None = None,
    ) -> ConditionedEmulator:
        """The emulator at parameters in [0, 1], shape `(parameters,)`; the last one is kept, for ensembles.

        Arguments:
            theta: The parameters.
            points: Cells across; those of training where not given.
            cells: Cells of the line of sight; all by default.
            depth: Cells between the two ends of the line of sight; as in training where not given.

        Raises:
            InfieldError: x or y is no multiple of the network's coarsest cell, or no cell is requested.
        """
        assert self.emulator is not None
        depth = depth or len(self.distance)
        cell_range = range(depth)[cells or slice(None)]
        if not len(cell_range):
            raise InfieldError(where="line of sight", found=f"no cell in {cells}", expected=f"some of {depth}")
        key = (*theta.tolist(), points or self.points, cell_range, depth)
        made = self._prepared.get(key)
        if made is None:
            made = ConditionedEmulator(
                self.emulator, theta, self.statistics, self.transform, cell_range, depth, points or self.points
            )
            self._prepared.clear()  # the last one alone: memory
            self._prepared[key] = made
        return made

    @cached_property
    def _prepared(self) -> dict[tuple[Any, ...], ConditionedEmulator]:
        """The emulator at the last requested point."""
        return {}

    def calls(self, steps: int | None = None) -> int:
        """Network calls per lightcone of `draw`."""
        return 1 if self.uses_emulator(steps) else steps or FLOW_STEPS

    def uses_emulator(self, steps: int | None = None) -> bool:
        """Whether `draw` uses the emulator."""
        return steps is None and self.emulator is not None

    def integrate(self, flow: LightconeFlow, generator: Generator, n: int, steps: int) -> Tensor:
        """Cones `(n, x, y, los)` in mK of one of its flows."""
        return self.temperature(flow, self.innovations(flow, generator, n, steps))[:, 0]

    def innovations(self, flow: LightconeFlow, generator: Generator, n: int, steps: int) -> Tensor:
        """Those of such cones, shape `(n, channel, x, y, los)`."""
        device = next(self.network.parameters()).device
        xi = torch.randn((n, *flow.event_shape), generator=generator, dtype=torch.float32).to(device)
        return self.evolved(flow, xi, steps)

    def evolved(self, flow: LightconeFlow, xi: Tensor, steps: int) -> Tensor:
        """Integrate the flow from white noise `(n, channel, x, y, los)`."""
        return integrate(flow.velocity, GaussianFlow.white(xi), xi, steps)

    def temperature(self, flow: LightconeFlow, xi: Tensor) -> Tensor:
        """Temperatures in mK, exactly 0 where ionised, of innovations; shape `(batch, 1, x, y, los)`."""
        mu, sigma = (part[:, :, None, None].to(xi) for part in (flow.profiles.mu, flow.profiles.sigma))
        values = flow.standardisation.innovations.colour(xi).mul_(sigma).add_(mu)  # in place: memory
        if not self.transform.atom or self.transform.fill:
            return self.transform.inverse(values)
        return zero_ionised(self.transform.pointwise_inverse(values[:, :1]), values[:, 1:])

    def to(self, device: torch.device | str) -> LightconePrior:
        """The same prior with its networks on another device."""
        moved = {
            name: getattr(self, name).to(device)
            for name in ("network", "statistics", "spectra", "linear_part", "drawn")
        }
        if self.repeats is not None:
            moved["repeats"] = self.repeats.to(device)
        return replace(self, emulator=self.emulator.to(device) if self.emulator else None, **moved)


def in_range(theta: Tensor, ranges: Mapping[str, tuple[float, float]]) -> Tensor:
    """Parameters `(batch, parameters)` in [0, 1]."""
    low, high = (torch.tensor([span[i] for span in ranges.values()]).to(theta) for i in (0, 1))
    return (theta - low) / (high - low)
