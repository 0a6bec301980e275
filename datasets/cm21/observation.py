"""Mock observations of lightcones: what a telescope would measure of a cone, with its noise, as a measurement file."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import Generator, Tensor

from infield.core.errors import InfieldError
from infield.core.grid import Axis, Grid
from infield.datasets.cm21.lightcone_file import TEMPERATURE, Lightcones
from infield.datasets.formats.measurement import write_measurement
from infield.physics.cm21.foreground_wedge import outside_wedge, wedge_slope
from infield.physics.cm21.interferometer import independent_modes, wavenumbers
from infield.physics.cm21.radiometer import visibility_variance
from infield.physics.cm21.telescopes import Telescope
from infield.physics.cm21.uv_coverage import baselines, grid_uv_counts, uv_tracks
from infield.physics.measurement import Measurement
from infield.physics.noise.gaussian import GaussianNoise
from infield.physics.operators.registry import build_operator


@dataclass(frozen=True, kw_only=True)
class Observation:
    """How a telescope looks at a lightcone.

    Arguments:
        telescope: The array.
        hours: Of integration altogether.
        interval: Between samples of the tracks, s.
        channel_cells: Cells of the line of sight in a channel.
        delay_channels: Channels of a stretch that is transformed to delays; 0 for visibilities of channels.
        horizon: Edge of the wedge that is cut, degrees; None for no cut. Needs `delay_channels`.
        buffer: Beyond that edge, in radians per Mpc.
        beam: Whether the primary beam matters.
    """

    telescope: Telescope
    hours: float
    interval: float = 300.0
    channel_cells: int = 1
    delay_channels: int = 0
    horizon: float | None = None
    buffer: float = 0.0
    beam: bool = False


@dataclass(frozen=True)
class ObservedField:
    """A stretch of lightcones seen by a telescope: everything but the temperatures.

    The coverage of a delay is the least of its stretch's channels, its noise their mean: the diagonal of the covariance
    after the transform. What is left out is that delays of noise that varies along the stretch are a little correlated.

    Arguments:
        cones: What is known of the lightcones.
        cells: Which cells of the line of sight are observed.
        observation: How.

    Raises:
        InfieldError: The cells do not fit the channels, or nothing is measured.
    """

    cones: Lightcones
    cells: range
    observation: Observation

    def __post_init__(self) -> None:
        o, depth = self.observation, len(self.cells)
        if depth < 2 or depth % o.channel_cells:
            raise InfieldError(
                where="observation",
                found=f"channels of {o.channel_cells} cells on {depth} cells",
                expected="whole channels",
                remedy="take another stretch ({cells})",
                parameters=["cells"],
            )
        if o.delay_channels and (depth // o.channel_cells) % o.delay_channels:
            raise InfieldError(
                where="observation",
                found=f"stretches of {o.delay_channels} channels on {depth // o.channel_cells} channels",
                expected="whole stretches",
                remedy="take another stretch ({cells}, {delay_channels})",
                parameters=["cells", "delay_channels"],
            )
        if not self.mask.any():
            raise InfieldError(
                where="observation",
                found="no mode that is measured",
                expected="some: the baselines are too short or too long for the box, or the wedge takes all",
                remedy="take another telescope, a larger box or a smaller wedge",
            )

    @cached_property
    def grid(self) -> Grid:
        """Domain of the observed field."""
        x, y, los = self.cones.grid.axes
        kept = los.coordinates[self.cells.start : self.cells.stop]
        return Grid((x, y, Axis(los.name, kept, los.units)))

    @cached_property
    def redshift(self) -> np.ndarray:
        """Of the cells, shape `(los,)`."""
        return self.cones.redshift[self.cells.start : self.cells.stop]

    @cached_property
    def frequency(self) -> np.ndarray:
        """Of the cells in MHz, shape `(los,)`."""
        return self.cones.frequency[self.cells.start : self.cells.stop]

    def _of_channels(self, values: np.ndarray) -> np.ndarray:
        return np.asarray(values, dtype=float).reshape(-1, self.observation.channel_cells).mean(1)

    @cached_property
    def channel_frequency(self) -> np.ndarray:
        """MHz, shape `(channel,)`."""
        return self._of_channels(self.frequency)

    @cached_property
    def channel_width(self) -> np.ndarray:
        """MHz, shape `(channel,)`."""
        return self._of_channels(np.abs(np.gradient(self.frequency))) * self.observation.channel_cells

    @cached_property
    def distance(self) -> np.ndarray:
        """Of the channels in Mpc, shape `(channel,)`."""
        return self._of_channels(np.array(self.grid.axes[2].coordinates))

    @cached_property
    def seconds(self) -> np.ndarray:
        """Time of all baselines next to each mode, shape `(kx, ky, channel)`, s."""
        o, (nx, ny, _), (lx, ly, _) = self.observation, self.grid.shape, self.grid.lengths
        telescope = o.telescope
        half = telescope.hours_a_day / 2
        hour_angles = np.arange(-half, half, o.interval / 3600) + o.interval / 7200
        uv = uv_tracks(baselines(telescope.positions), telescope.latitude, telescope.latitude, hour_angles)
        counts = [
            grid_uv_counts(uv, (nx, ny), (lx, ly), distance, frequency)
            for distance, frequency in zip(self.distance, self.channel_frequency, strict=True)
        ]
        return np.stack(counts, axis=-1) * (o.hours * 3600 / len(hour_angles))

    @cached_property
    def k_los(self) -> np.ndarray | None:
        """Of the delays in radians per Mpc, shape `(channel,)`; None without a transform."""
        m = self.observation.delay_channels
        if not m:
            return None
        k = [2 * np.pi * np.fft.fftfreq(m, abs(np.diff(stretch).mean())) for stretch in self.distance.reshape(-1, m)]
        return np.concatenate(k)

    @cached_property
    def slope(self) -> np.ndarray | None:
        """k_los over k_perp at the edge of the wedge, of each stretch; None where none is cut."""
        o = self.observation
        if o.horizon is None or not o.delay_channels:
            return None
        distance, redshift = (
            v.reshape(-1, o.delay_channels * o.channel_cells)
            for v in (np.array(self.grid.axes[2].coordinates), self.redshift)
        )
        return np.array([wedge_slope(d, z, o.horizon) for d, z in zip(distance, redshift, strict=True)])

    @cached_property
    def mask(self) -> np.ndarray:
        """What is measured, bool, shape `(kx, ky, channel or delay)`."""
        m, (nx, ny, _) = self.observation.delay_channels, self.grid.shape
        covered = self.seconds > 0
        if m:
            covered = np.repeat(covered.reshape(nx, ny // 2 + 1, -1, m).all(-1), m, axis=-1)
        kept = covered & independent_modes(nx, ny).numpy()[..., None]
        if self.slope is not None:
            assert self.k_los is not None
            kx, ky = (k.numpy() for k in wavenumbers(self.grid))
            k_perp, stretches = np.hypot(kx[:, None], ky), self.k_los.reshape(-1, m)
            outside = [
                outside_wedge(k_perp, k, slope, self.observation.buffer)
                for k, slope in zip(stretches, self.slope, strict=True)
            ]
            kept &= np.concatenate(outside, axis=-1)
        return kept

    @cached_property
    def variance(self) -> np.ndarray:
        """Of the real part of each datum, and of the imaginary part, mK^2; 1 where nothing is measured. Shape of
        `mask`."""
        m, (nx, ny, _), (lx, ly, _) = self.observation.delay_channels, self.grid.shape, self.grid.lengths
        found = visibility_variance(
            self.observation.telescope,
            self.seconds,
            frequency=self.channel_frequency,
            width=self.channel_width,
            solid_angle=lx * ly / self.distance**2,
            points=(nx, ny),
        )
        if m:
            found = np.repeat(found.reshape(nx, ny // 2 + 1, -1, m).mean(-1), m, axis=-1)
        return np.where(self.mask, found / 2, 1.0)

    def measure(self, cone: Tensor, seed: int) -> Measurement:
        """The measurement of one cone, with noise drawn from the seed, and the cone as its truth.

        Arguments:
            cone: Temperatures of the observed cells in mK, `(x, y, cells)`.
            seed: Of the noise.
        """
        o = self.observation
        parameters = {"channel_cells": o.channel_cells, "delay_channels": o.delay_channels}
        arrays = {"coverage": self.mask}
        roles = {"mask": "coverage"}
        if o.beam:
            distance = np.array(self.grid.axes[2].coordinates)
            arrays["beam_fwhm"] = o.telescope.beam_fwhm(self.frequency) * distance
            roles["beam_fwhm"] = "beam_fwhm"
        description = {"name": "interferometer", "parameters": parameters, "arrays": roles}
        operator = build_operator(description, arrays, self.grid, 1)
        noise = GaussianNoise(torch.from_numpy(self.variance).expand(operator.data_shape).clone())
        truth = cone.to(torch.float64)[None, None]
        exact = operator.A(truth)
        y = noise.sample(exact, Generator().manual_seed(seed))
        return Measurement(
            y=torch.where(operator.observed, y, torch.zeros_like(y)),
            operator=operator,
            noise=noise,
            grid=self.grid,
            channels=(TEMPERATURE,),
            units="mK",
            truth=truth,
            description=description,
            arrays=arrays,
        )

    def write(self, path: Path, measurement: Measurement, *, history: str, overwrite: bool = False) -> None:
        """Write a measurement file with the coordinates of its data, and redshifts and frequencies of the field.

        Raises:
            InfieldError: `path` exists, or the disk is full.
        """
        o, axes = self.observation, ("kx", "ky", "channel")
        kx, ky = (k.numpy() for k in wavenumbers(self.grid))
        beside = {
            "kx": ("kx", kx, {"units": "rad Mpc-1", "long_name": "wavenumber of the sky along x"}),
            "ky": ("ky", ky, {"units": "rad Mpc-1", "long_name": "wavenumber of the sky along y"}),
            "channel_frequency": ("channel", self.channel_frequency, {"units": "MHz"}),
            "channel_width": ("channel", self.channel_width, {"units": "MHz"}),
            "baseline_seconds": (axes, self.seconds, {"units": "s", "long_name": "time of all baselines in a cell"}),
            "redshift": ("los", self.redshift, {"units": "1"}),
            "frequency": ("los", self.frequency, {"units": "MHz"}),
        }
        if self.k_los is not None:
            words = {"units": "rad Mpc-1", "long_name": "wavenumber along the line of sight"}
            beside["k_los"] = ("channel", self.k_los, words)
        title = f"21 cm lightcone seen by {o.telescope.name} for {o.hours:g} h"
        dims = {"data": ("part", *axes), "coverage": axes, "beam_fwhm": ("los",)}
        write_measurement(
            path, measurement, overwrite=overwrite, title=title, history=history, data_units="mK", dims=dims,
            extra=xr.Dataset(beside),
        )  # fmt: skip


def read_layout(path: Path) -> np.ndarray:
    """Positions of antennas, east and north in m, from a CSV file with the columns east_m and north_m.

    Raises:
        InfieldError: The file is missing or no such table, or has fewer than two antennas.
    """
    if not path.is_file():
        raise InfieldError(where=path, found="no such file", expected="a CSV file of antennas", remedy="check the path")
    places = []
    with path.open(newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            try:
                places.append((float(row["east_m"]), float(row["north_m"])))
            except (KeyError, TypeError, ValueError):
                raise InfieldError(
                    where=path, found=f"line {number} without east_m and north_m", expected="numbers"
                ) from None
    if len(places) < 2 or not np.isfinite(places).all():
        raise InfieldError(where=path, found=f"{len(places)} antennas", expected="at least two, at finite places")
    return np.array(places)
