"""The channel format: wall pressure and plane averages of a simulated channel flow, and the restart file of its run.

A zarr group with `wall_pressure (time, wall, z, x)`, p / (rho u_tau^2), the mean of each plane removed; at the same
times the averages over planes `u_mean`, `uu`, `vv`, `ww`, `uv (time, y)` and `wall_shear (time, wall)`. All is in units
of the half height h, the friction velocity u_tau that the driving force stands for, and the density; `time` is 0 at the
end of the spin-up, `wall` is 0 at the bottom (y = -1), 1 at the top. Attributes: `Re_tau`, `u_tau`, `nu`,
`half_height`, `length_x`, `length_z`, `dx_plus`, `dz_plus`, `dy_plus` (at the wall and at the centre), `seed`, and of a
finished file `u_tau_measured`, from the mean wall shear. `datasets.wall_pressure.readers.open` reads it as other files
of planes.

How it is written and resumes after a kill: see `block_writer`. The flow itself resumes from `<path>.restart.npz`.
"""

from __future__ import annotations

import json
import os
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from infield.core.errors import InfieldError
from infield.datasets.formats.block_writer import (
    BlockWriter,
    check_samples,
    makers,
    open_finished,
)
from infield.datasets.formats.zarr_group import CONVENTIONS, checked, lay_out_group, remove_tree

KIND = "channel"
VERSION = 1
PRESSURE = "wall_pressure"
WALLS = ("bottom", "top")
PROFILES = {
    "u_mean": "mean of the streamwise velocity over the plane",
    "uu": "variance of the streamwise velocity over the plane",
    "vv": "variance of the wall-normal velocity over the plane",
    "ww": "variance of the spanwise velocity over the plane",
    "uv": "covariance of the streamwise and the wall-normal velocity over the plane",
}
SHEAR = "wall_shear"


@dataclass(frozen=True, kw_only=True)
class ChannelLayout:
    """What a file of a channel flow holds.

    Arguments:
        re_tau: Friction Reynolds number of the driving force.
        lengths: Periods in x and z, in half heights.
        points: Points in x, y and z.
        y: Points across the channel, from -1 to 1.
        times: When the flow is stored, in h / u_tau.
    """

    re_tau: float
    lengths: tuple[float, float]
    points: tuple[int, int, int]
    y: np.ndarray
    times: np.ndarray

    def attributes(self) -> dict[str, Any]:
        """The numbers of the flow as attributes."""
        (lx, lz), (nx, ny, nz) = self.lengths, self.points
        gaps = np.diff(self.y) * self.re_tau
        return {
            "Re_tau": self.re_tau,
            "u_tau": 1.0,
            "nu": 1 / self.re_tau,
            "half_height": 1.0,
            "length_x": lx,
            "length_z": lz,
            "dx_plus": lx / nx * self.re_tau,
            "dz_plus": lz / nz * self.re_tau,
            "dy_plus": [float(gaps[0]), float(gaps[ny // 2 - 1])],
        }

    def coordinates(self) -> dict[str, xr.Variable]:
        """The coordinate variables."""
        (lx, lz), (nx, _, nz) = self.lengths, self.points
        unit = {"units": "1"}
        flag = {"flag_values": np.array([0, 1], dtype=np.int8), "flag_meanings": " ".join(WALLS)}
        return {
            "time": xr.Variable("time", self.times, {**unit, "long_name": "time since the spin-up over h / u_tau"}),
            "wall": xr.Variable("wall", np.array([0, 1], dtype=np.int8), {**flag, "long_name": "wall"}),
            "z": xr.Variable(
                "z", np.arange(nz) * (lz / nz), {**unit, "long_name": "spanwise position over h", "periodic": 1}
            ),
            "x": xr.Variable(
                "x", np.arange(nx) * (lx / nx), {**unit, "long_name": "streamwise position over h", "periodic": 1}
            ),
            "y": xr.Variable("y", self.y, {**unit, "long_name": "wall-normal position over h, 0 at the centre"}),
        }


class ChannelWriter(BlockWriter):
    """Writes a channel flow block by block into `<path>.partial`, and resumes an earlier run of it that was stopped.

    Arguments:
        path: The file to write.
        layout: What it holds.
        block: Stored times that are written together; also the chunk of the file.
        run: What makes the flow what it is, in JSON types, e.g. `Re_tau`, `seed`. A run is only continued where all of
            it is the same.
        dtype: "float32" or "float64", in which pressures are stored.
        overwrite: Whether an existing group may be replaced, once the new one is finished.

    Raises:
        InfieldError: `path` exists, `<path>.partial` is of another run, or the disk is full.
    """

    def __init__(
        self,
        path: str | Path,
        layout: ChannelLayout,
        *,
        block: int,
        run: Mapping[str, Any],
        dtype: str = "float32",
        overwrite: bool = False,
    ) -> None:
        self.layout, self.dtype = layout, dtype
        self.run_attributes = json.loads(json.dumps({**run, "block": block, "dtype": dtype}))
        attributes = {
            "Conventions": CONVENTIONS,
            "infield_format": KIND,
            "infield_version": VERSION,
            "infield_complete": 0,
            "infield_run": json.dumps(self.run_attributes),
            "title": f"Turbulent channel flow, Re_tau {layout.re_tau:g}",
            "source": "direct numerical simulation, Fourier-Chebyshev-Fourier, velocity-vorticity formulation",
            "seed": self.run_attributes.get("seed", 0),
            **layout.attributes(),
            **makers(),
        }
        path = Path(path)
        self.restart = path.with_name(path.name + ".restart.npz")
        if not path.with_name(path.name + ".partial").exists():
            self.restart.unlink(missing_ok=True)
        super().__init__(
            path,
            kind=KIND,
            version=VERSION,
            samples=len(layout.times),
            block=block,
            run=self.run_attributes,
            lay_out=lambda draft: self._lay_out(draft, attributes),
            overwrite=overwrite,
        )

    def write_block(self, b: int, found: Mapping[str, np.ndarray]) -> None:
        """Write one block, then its flag.

        Arguments:
            b: Number of the block.
            found: Every variable by name, its first axis the times of the block.

        Raises:
            InfieldError: The disk is full.
        """
        self._write_block(b, {name: values.astype(self._array(name).dtype) for name, values in found.items()})

    def save_restart(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep the state from which the run resumes; it takes the place of the one before whole or not at all.

        Raises:
            InfieldError: The disk is full.
        """
        draft = self.restart.with_name(self.restart.name + ".draft")
        with self._disk_full():
            try:
                with draft.open("wb") as file:
                    np.savez(file, run=np.array(json.dumps(self.run_attributes)), **arrays)  # type: ignore[arg-type]
                os.replace(draft, self.restart)
            finally:
                draft.unlink(missing_ok=True)

    def read_restart(self) -> dict[str, np.ndarray] | None:
        """What was kept last; None where nothing was.

        Raises:
            InfieldError: It is damaged or of another run.
        """
        if not self.restart.exists():
            return None
        remedy = f"remove {self.restart} to start this run from its beginning"
        try:
            with np.load(self.restart, allow_pickle=False) as file:
                arrays = {name: file[name] for name in file.files}
            run_attributes = json.loads(str(arrays.pop("run")))
        except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise InfieldError(where=self.restart, found=f"a damaged restart file ({error})", remedy=remedy) from error
        if run_attributes != self.run_attributes:
            raise InfieldError(where=self.restart, found="the restart file of another run", remedy=remedy)
        return arrays

    def remove(self) -> None:
        """Remove all of a run that is not finished."""
        remove_tree(self.partial)
        self.restart.unlink(missing_ok=True)
        self.release()

    def finish(self) -> None:
        """Mark the file complete and rename it to its path, and remove the restart file.

        Raises:
            InfieldError: Blocks are missing, `path` appeared meanwhile, or the disk is full.
        """
        self.refuse_missing_blocks()
        self._complete({}, {"u_tau_measured": float(np.sqrt(self._read(SHEAR).mean()))})
        self.restart.unlink(missing_ok=True)

    def _lay_out(self, path: Path, attributes: Mapping[str, Any]) -> None:
        empty = xr.Dataset(coords=self.layout.coordinates(), attrs=dict(attributes))
        group = lay_out_group(path, empty)
        nx, ny, nz = self.layout.points

        def create(name: str, dims: tuple[str, ...], shape: tuple[int, ...], dtype: str, words: str) -> None:
            group.create_array(
                name,
                shape=(self.samples, *shape),
                chunks=(min(self.block, self.samples), *shape),
                dimension_names=("time", *dims),
                dtype=dtype,
                fill_value=np.nan,
                compressors=checked(),
                attributes={"units": "1", "long_name": words},
            )

        create(PRESSURE, ("wall", "z", "x"), (2, nz, nx), self.dtype, "wall pressure fluctuation over rho u_tau^2")
        for name, words in PROFILES.items():
            create(name, ("y",), (ny,), "float64", f"{words}, over u_tau{'' if name == 'u_mean' else '^2'}")
        create(SHEAR, ("wall",), (2,), "float64", "wall shear stress over rho u_tau^2, mean over the wall")
        flag: dict[str, Any] = {"flag_values": [0, 1], "flag_meanings": "missing written"}
        group.create_array(
            "done",
            shape=(self.samples,),
            chunks=(min(self.block, self.samples),),
            dimension_names=("time",),
            dtype="int8",
            fill_value=0,
            compressors=checked(),
            attributes=flag,
        )


def open_channel(path: str | Path) -> xr.Dataset:
    """Open a finished file, its arrays still on disk.

    Raises:
        InfieldError: The path is missing or no zarr group; the file is foreign, newer, not complete or truncated.
    """
    group = open_finished(path, KIND, VERSION)
    check_samples(path, group, (PRESSURE, *PROFILES, SHEAR))
    return group
