"""Raw data of a domain to a file of ours.

    infield convert mri KSPACE.npy -o brain.zarr
    infield convert wall-pressure PLANES.h5 -o planes.zarr
    infield convert wall-sensors planes.zarr -o measurement.zarr --share 0.0025 --noise 0.1

mri: complex k-space `(coil, ky, kx)` as numpy stores it, zeros where nothing was sampled, to a measurement. Coil maps
(ESPIRiT) and noise are estimated from the data. wall-pressure: planes of many formats to training planes.
wall-sensors: one of these planes to a measurement of it by a few sensors. `infield convert DOMAIN --help` tells what
each takes; all of them take --json.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from infield import InfieldError
from infield.datasets.mri import convert_mri
from infield.datasets.zarr_group import check_new
from infield.pipelines import wall_planes
from infield.pipelines.console import table


def add_arguments(parser: argparse.ArgumentParser) -> None:
    domains = parser.add_subparsers(dest="domain", required=True, metavar="DOMAIN", help="what kind of data it is")
    for name, add, described in (
        ("mri", _add_arguments, __doc__),
        ("wall-pressure", wall_planes.add_plane_arguments, wall_planes.PLANES),
        ("wall-sensors", wall_planes.add_sensor_arguments, wall_planes.SENSORS),
    ):
        as_written = argparse.RawDescriptionHelpFormatter
        add(domains.add_parser(name, description=described, formatter_class=as_written))


def _add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", type=Path, metavar="FILE", help="the raw data")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="MEASUREMENT.zarr")
    parser.add_argument("--hold-out", type=float, default=0.0, metavar="FRACTION",
                        help="set this share of the samples aside, to test predictions on (default 0)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, help="seed of that choice (default 0)")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output")
    parser.add_argument("--json", action="store_true", help="print one JSON object instead of a table")


def run(arguments: argparse.Namespace) -> int:
    if arguments.domain == "wall-pressure":
        return wall_planes.run_planes(arguments)
    if arguments.domain == "wall-sensors":
        return wall_planes.run_sensors(arguments)
    if not 0 <= arguments.hold_out < 1:
        raise InfieldError(f"--hold-out: found {arguments.hold_out}, expected a share of at least 0 and below 1")
    check_new(arguments.output, arguments.overwrite)
    converted = convert_mri(arguments.source, hold_out=arguments.hold_out, seed=arguments.seed)
    converted.write(arguments.output, overwrite=arguments.overwrite)
    measurement = converted.measurement
    facts = {
        "output": str(arguments.output),
        "coils": int(measurement.y.shape[2]),
        "shape": list(measurement.grid.shape),
        "samples": int(measurement.count // (2 * measurement.y.shape[2])),
        "held_out_samples": int(converted.held_out_mask.sum()),
        "calibration_width": converted.calibration_width,
        "scale": converted.scale,
    }
    if arguments.json:
        print(json.dumps(facts))
    else:
        table(
            str(arguments.output),
            {key.replace("_", " "): str(value) for key, value in facts.items() if key != "output"},
        )
    return 0
