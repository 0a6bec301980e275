"""The wall-pressure format: planes of wall pressure in wall units, as `datasets.training.fields.FieldFile` reads them.

A zarr group with `pressure (sample, z, x)`, float32, p / (rho u_tau^2), the mean of each plane removed (the constant of
a pressure is arbitrary); the coordinates `z` and `x` in nu/u_tau with `periodic` 0 or 1; along `sample`, where known,
`time` in h/u_tau and `wall` (0 bottom, 1 top). Its attributes: `Re_tau`, `u_tau`, `nu`, `half_height`, `dx_plus`,
`dz_plus`, `wall`, `synthetic` (1 for a random field that stands in for a flow), `provenance` (JSON), `history`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from infield.core.checks import is_positive
from infield.core.errors import InfieldError
from infield.core.grid import Grid
from infield.datasets.formats.block_writer import (
    BlockWriter,
    check_samples,
    create_done_flags,
    makers,
    open_finished,
)
from infield.datasets.formats.field import Field, read_field
from infield.datasets.formats.zarr_group import CONVENTIONS, checked, json_attribute, lay_out_group, refusal
from infield.physics.wall_pressure.wall_units import OUTER_TIME, RE_TAU_RTOL, SPANWISE, STREAMWISE

KIND = "wall-pressure"
VERSION = 1
PRESSURE = "pressure"
WALLS = ("bottom", "top")
LARGEST_CHUNK = 1024
"""Points of a chunk along an axis, at most: tiles of a large plane can be read without the rest."""


@dataclass(frozen=True, kw_only=True)
class WallPlanes:
    """Planes of a file: their metadata.

    Arguments:
        grid: Axes (z, x) in nu/u_tau.
        samples: Number of planes.
        re_tau: Friction Reynolds number.
        u_tau, nu, half_height: In the units of the source; None where not known.
        wall: "bottom", "top" or "both".
        synthetic: Whether it is a random field that stands in for a flow.
        time: Of each plane in h/u_tau, shape `(samples,)`; None where not known.
        walls: Wall of each plane, 0 or 1, shape `(samples,)`; None where there is one wall only.
        provenance: Where the planes come from and what was done to them, in JSON types.
        history: The same as text, one line per step.
    """

    grid: Grid
    samples: int
    re_tau: float
    u_tau: float | None = None
    nu: float | None = None
    half_height: float | None = None
    wall: str = "bottom"
    synthetic: bool = False
    time: np.ndarray | None = None
    walls: np.ndarray | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    history: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.grid.names != (SPANWISE, STREAMWISE):
            raise ValueError(f"wall planes: found axes {self.grid.names}, expected ({SPANWISE}, {STREAMWISE})")

    @property
    def block(self) -> int:
        """Planes that are written together, of 2^22 values at most where there are several."""
        return min(max(2**22 // math.prod(self.grid.shape), 1), self.samples)

    @property
    def title(self) -> str:
        synthetic = "Synthetic stand-in for wall pressure" if self.synthetic else "Wall pressure"
        return f"{synthetic}, Re_tau {self.re_tau:g}"

    def attributes(self) -> dict[str, Any]:
        """Attributes of the file, less what is not known."""
        scales = {"u_tau": self.u_tau, "nu": self.nu, "half_height": self.half_height}
        dz_plus, dx_plus = self.grid.spacing
        return {
            "field": Field(self.grid, (PRESSURE,), "1").attribute(),
            "Re_tau": float(self.re_tau),
            **{name: float(value) for name, value in scales.items() if value is not None},
            "dx_plus": dx_plus,
            "dz_plus": dz_plus,
            "wall": self.wall,
            "synthetic": int(self.synthetic),
            "provenance": json.dumps(dict(self.provenance)),
            "history": "\n".join(self.history),
        }


class WallPlaneWriter(BlockWriter):
    """Writes planes block by block into `<path>.partial`, and resumes an earlier run of it that was stopped.

    Arguments:
        path: The file to write.
        planes: What it will hold.
        run: What makes the samples what they are, in JSON types. A run is only continued where all of it is the same.
        block: Planes that are written together; by default `planes.block`.
        overwrite: Whether an existing group may be replaced, once the new one is finished.

    Raises:
        InfieldError: `path` exists, `<path>.partial` is of another run, or the disk is full.
    """

    def __init__(
        self,
        path: str | Path,
        planes: WallPlanes,
        *,
        run: Mapping[str, Any],
        block: int | None = None,
        overwrite: bool = False,
    ) -> None:
        self.planes = planes
        block = block or planes.block
        described = {"samples": planes.samples, "block": block, "grid": planes.grid.to_json()}
        described |= {"Re_tau": planes.re_tau, "wall": planes.wall, "synthetic": planes.synthetic}
        described = json.loads(json.dumps({**run, **described}))
        attributes = {
            "Conventions": CONVENTIONS,
            "infield_format": KIND,
            "infield_version": VERSION,
            "infield_complete": 0,
            "infield_run": json.dumps(described),
            "title": planes.title,
            **planes.attributes(),
            **makers(),
        }
        super().__init__(
            path,
            kind=KIND,
            version=VERSION,
            samples=planes.samples,
            block=block,
            run=described,
            lay_out=lambda draft: self._lay_out(draft, attributes),
            overwrite=overwrite,
        )

    def write_block(self, b: int, pressure: np.ndarray) -> None:
        """Write one block, then its flag; the mean of each plane is removed.

        Arguments:
            b: Number of the block.
            pressure: p / (rho u_tau^2), shape `(samples of the block, z, x)`.

        Raises:
            InfieldError: A plane is not finite, or the disk is full.
            ValueError: It is of another shape.
        """
        rows = self.sample_range(b)
        expected = (len(rows), *self.planes.grid.shape)
        if pressure.shape != expected:
            raise ValueError(f"block {b}: found planes of shape {pressure.shape}, expected {expected}")
        values = np.asarray(pressure, dtype=np.float64)
        whole = np.isfinite(values).reshape(len(rows), -1).all(1)
        if not whole.all():
            bad = int(whole.argmin())
            count = int((~np.isfinite(values[bad])).sum())
            raise InfieldError(
                where=self.path,
                found=f"NaN or infinity in {count} of {values[bad].size} values of plane {rows[bad]}",
                expected="finite ones",
                remedy="leave that plane out or mend it",
            )
        self._write_block(b, {PRESSURE: (values - values.mean((1, 2), keepdims=True)).astype(np.float32)})

    def finish(self) -> None:
        """Mark the file complete and rename it to its path.

        Raises:
            InfieldError: Blocks are missing, `path` appeared meanwhile, or the disk is full.
        """
        self.refuse_missing_blocks()
        self._complete({}, {})

    def _lay_out(self, path: Path, attributes: Mapping[str, Any]) -> None:
        planes = self.planes
        coordinates = Field(planes.grid, (PRESSURE,), "1").coordinates()
        for axis, words in ((SPANWISE, "spanwise"), (STREAMWISE, "streamwise")):
            coordinates[axis].attrs["long_name"] = f"{words} position in wall units"
        coordinates["sample"] = xr.Variable(("sample",), np.arange(planes.samples))
        if planes.time is not None:
            described = {"units": OUTER_TIME, "long_name": "time"}
            coordinates["time"] = xr.Variable(("sample",), np.asarray(planes.time, dtype=float), described)
        if planes.walls is not None:
            flag = {"flag_values": np.array([0, 1], dtype=np.int8), "flag_meanings": " ".join(WALLS)}
            coordinates["wall"] = xr.Variable(("sample",), np.asarray(planes.walls, dtype=np.int8), flag)
        empty = xr.Dataset(coords=coordinates, attrs=dict(attributes))
        group = lay_out_group(path, empty)
        block = min(self.block, planes.samples)
        group.create_array(
            PRESSURE,
            shape=(planes.samples, *planes.grid.shape),
            chunks=(block, *(min(n, LARGEST_CHUNK) for n in planes.grid.shape)),
            dimension_names=("sample", SPANWISE, STREAMWISE),
            dtype="float32",
            fill_value=np.nan,
            compressors=checked(),
            attributes={"units": "1", "long_name": "wall pressure fluctuation p / (rho u_tau^2)"},
        )
        create_done_flags(group, planes.samples, block)


def open_wall_planes(path: str | Path) -> tuple[xr.Dataset, WallPlanes]:
    """Open a finished file of planes, the pressure still on disk, and its metadata.

    Raises:
        InfieldError: The path is missing or no zarr group; the file is foreign, newer, not complete or truncated.
    """
    path = Path(path)
    group = open_finished(path, KIND, VERSION)
    check_samples(path, group, (PRESSURE,))
    grid = read_field(path, group).grid
    if not isinstance(grid, Grid) or grid.names != (SPANWISE, STREAMWISE):
        raise refusal(path, "field", f"axes {grid.names}", f"a grid of ({SPANWISE}, {STREAMWISE})")
    known = {name: _number(path, group, name) for name in ("Re_tau", "u_tau", "nu", "half_height")}
    if known["Re_tau"] is None:
        raise refusal(path, "Re_tau", "no such number", "the friction Reynolds number of the planes")
    return group, WallPlanes(
        grid=grid,
        samples=group.sizes["sample"],
        re_tau=known["Re_tau"],
        u_tau=known["u_tau"],
        nu=known["nu"],
        half_height=known["half_height"],
        wall=str(group.attrs.get("wall", "bottom")),
        synthetic=group.attrs.get("synthetic") == 1,
        time=group["time"].values if "time" in group.variables else None,
        walls=group["wall"].values if "wall" in group.variables else None,
        provenance=json_attribute(path, group, "provenance"),
        history=tuple(str(group.attrs.get("history", "")).splitlines()),
    )


def check_re_tau(path: str | Path, found: float, expected: float) -> None:
    """Refuse planes of another flow than expected.

    Raises:
        InfieldError: The Reynolds numbers differ by more than 1 %.
    """
    if abs(found / expected - 1) > RE_TAU_RTOL:
        raise refusal(Path(path), "Re_tau", f"{found:g}", f"{expected:g}", "take planes of that flow")


def _number(path: Path, group: xr.Dataset, name: str) -> float | None:
    value = group.attrs.get(name)
    if value is None:
        return None
    if not is_positive(value):
        raise refusal(path, name, repr(value), "a finite number above zero")
    return float(value)
