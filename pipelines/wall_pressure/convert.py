"""Wall pressure as users have it to the wall-pressure format, and planes of it to measurements by a few sensors."""

from __future__ import annotations

import argparse
import csv
from pathlib import Path
from typing import Any

import numpy as np
import torch

from infield.core.errors import InfieldError
from infield.core.json_text import to_json
from infield.datasets.formats.foreign_arrays import readable
from infield.datasets.formats.zarr_group import check_new, remove_tree
from infield.datasets.wall_pressure.plane_file import PRESSURE, WallPlaneWriter, open_wall_planes
from infield.datasets.wall_pressure.readers.common import UserMetadata
from infield.datasets.wall_pressure.readers.open import open_planes
from infield.datasets.wall_pressure.sensors import WallSensors, write_wall_measurement
from infield.pipelines.run.console import progress, say, table
from infield.pipelines.run.options import check_at_least


def run_planes(arguments: argparse.Namespace) -> int:
    names = ("re_tau", "u_tau", "nu", "half_height", "rho", "variable", "order", "wall", "flow")
    lengths = None if arguments.lengths is None else tuple(arguments.lengths)
    stated = UserMetadata(**{name: getattr(arguments, name) for name in names}, lengths=lengths)
    facts = convert_planes(
        arguments.source, arguments.output, stated, overwrite=arguments.overwrite, quiet=arguments.json
    )
    if arguments.json:
        print(to_json(facts))
        return 0
    for note in facts["notes"]:
        say(f"infield convert: {note}")
    nz, nx = facts["shape"]
    rows = {
        "planes": f"{facts['samples']}, wall: {facts['wall']}" + ", synthetic" * facts["synthetic"],
        "Re_tau": f"{facts['Re_tau']:g}",
        "points, z x x": f"{nz} x {nx}",
        "spacings": f"dx+ {facts['dx_plus']:.4g}, dz+ {facts['dz_plus']:.4g}",
        "read as": facts["format"],
    }
    table(str(arguments.output), rows)
    return 0


def convert_planes(
    source: Path, output: Path, stated: UserMetadata, *, overwrite: bool = False, quiet: bool = False
) -> dict[str, Any]:
    """The command as a function; returns facts in plain JSON types.

    Raises:
        InfieldError: An error in the input that the user can fix; no incomplete file is left at `output`.
    """
    check_new(output, overwrite)
    with open_planes(source, stated) as found:
        planes = found.planes
        beside = source.with_name(str(planes.provenance["source"]))  # of a descriptor, the data
        files = [file for file in dict.fromkeys((source, beside)) if file.exists()]
        run = {
            "source": [file.name for file in files],
            "bytes": [file.stat().st_size for file in files],
            "modified": [file.stat().st_mtime_ns for file in files],
            "steps": planes.history,
        }
        writer = WallPlaneWriter(output, planes, run=run, overwrite=overwrite)
        try:
            with progress(quiet=quiet) as bar:
                missing = writer.missing_blocks()
                for b in bar.track(missing, description="blocks"):
                    with readable(source):
                        pressure = found.read(writer.sample_range(b))
                    writer.write_block(b, pressure)
        except BaseException:
            if len(writer.missing_blocks()) == writer.blocks:  # nothing worth going on from
                remove_tree(writer.partial)
                writer.release()
            raise
        writer.finish()
    dz_plus, dx_plus = planes.grid.spacing
    return {
        "output": str(output),
        "format": planes.provenance["format"],
        "samples": planes.samples,
        "shape": list(planes.grid.shape),
        "periodic": {axis.name: axis.periodic for axis in planes.grid.axes},
        "Re_tau": planes.re_tau,
        "dx_plus": dx_plus,
        "dz_plus": dz_plus,
        "wall": planes.wall,
        "synthetic": planes.synthetic,
        "notes": list(found.notes),
    }


def run_sensors(arguments: argparse.Namespace) -> int:
    check_new(arguments.output, arguments.overwrite)
    check_at_least(0, seed=arguments.seed)
    group, planes = open_wall_planes(arguments.source)
    if not 0 <= arguments.index < planes.samples:
        last = planes.samples - 1
        raise InfieldError(where="--index", found=arguments.index, expected=f"0 to {last} in {arguments.source}")
    with readable(arguments.source):
        truth = torch.from_numpy(group[PRESSURE][arguments.index].values.astype(np.float64))
    if arguments.fraction is not None:
        sensors = WallSensors.random(planes.grid, arguments.fraction, arguments.seed)
    elif arguments.lattice is not None:
        dx_plus, dz_plus = arguments.lattice
        sensors = WallSensors.lattice(planes.grid, dz_plus, dx_plus)
    else:
        sensors = WallSensors.at(planes.grid, read_positions(arguments.positions))
    noise_std = arguments.noise_std
    write_wall_measurement(
        arguments.output,
        sensors.measure(truth, noise_std, arguments.seed),
        re_tau=planes.re_tau,
        synthetic=planes.synthetic,
        words=sensors.words,
        history=f"plane {arguments.index} of {arguments.source.name}, noise of standard deviation {noise_std:g}",
        overwrite=arguments.overwrite,
    )
    facts = {
        "output": str(arguments.output),
        "Re_tau": planes.re_tau,
        "synthetic": planes.synthetic,
        "sensors": sensors.count,
        "share": sensors.share,
        "shape": list(planes.grid.shape),
        "noise": noise_std,
    }
    if arguments.json:
        print(to_json(facts))
    else:
        rows = {key: str(value) for key, value in facts.items() if key != "output"}
        table(str(arguments.output), rows)
    return 0


def read_positions(path: Path) -> np.ndarray:
    """Positions `(sensors, 2)` of z and x in wall units, from a CSV file with the columns x_plus and z_plus.

    Raises:
        InfieldError: The file is missing or no such table.
    """
    if not path.is_file():
        raise InfieldError(
            where=path, found="no such file", expected="a CSV file of positions", remedy="check the path"
        )
    positions = []
    with path.open(newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.DictReader(file), start=2):
            try:
                positions.append((float(row["z_plus"]), float(row["x_plus"])))
            except (KeyError, TypeError, ValueError):
                raise InfieldError(
                    where=path, found=f"line {number} without x_plus and z_plus", expected="numbers"
                ) from None
    return np.array(positions).reshape(-1, 2)
