"""Options of `infield convert wall-pressure` and `wall-sensors`; imports nothing heavy."""

from __future__ import annotations

from pathlib import Path

from infield.pipelines.run.options import Parser, add_json
from infield.pipelines.run.subcommand import Subcommand, deferred
from infield.pipelines.wall_pressure.half_heights import half_heights

WALLS = ("bottom", "top")
FLOWS = ("channel", "channel5200")
"""Names in `datasets.wall_pressure`, whose modules are heavy."""

_PLANES = """Planes of wall pressure to the wall-pressure format: wall units, the mean of each plane removed.

    infield convert wall-pressure planes.h5 -o planes.zarr --re-tau 180

FILE is HDF5, netCDF or zarr with an array (time, [wall,] z, x), coordinates and attributes (infield.datasets.
wall_plane_files), such as `infield simulate channel` writes; a cut-out of the JHTDB; or a YAML descriptor of a raw
binary file, as Fortran writes it (infield.datasets.wall_pressure.readers.binary). It is read block by block; a killed
run resumes.
"""

_SENSORS = """A plane of a wall-pressure file to a measurement of it by a few sensors, with Gaussian noise.

    infield convert wall-sensors long.zarr -o measurement.zarr --fraction 0.0025 --noise-std 0.1
"""


def add_plane_arguments(parser: Parser) -> None:
    parser.add_argument("source", type=Path, metavar="FILE", help="the planes, or the descriptor of a binary file")
    parser.add_argument("--output", type=Path, required=True, metavar="PLANES.zarr", help="the planes, a new file")
    flow = parser.add_argument_group("the flow, if the file does not state it; else it must agree")
    flow.add_argument("--re-tau", type=float, metavar="RE", help="friction Reynolds number")
    flow.add_argument("--u-tau", type=float, metavar="U", help="friction velocity, in the file's own units")
    flow.add_argument("--nu", type=float, metavar="NU", help="kinematic viscosity, in the file's own units")
    flow.add_argument("--half-height", type=float, metavar="H",
                      help="half height of the channel, in the file's own units")  # fmt: skip
    flow.add_argument("--rho", type=float, metavar="RHO", help="density, in the file's own units (default 1)")
    flow.add_argument("--flow", choices=list(FLOWS), help="of a JHTDB cut-out without a name")
    layout = parser.add_argument_group("the layout of the file, where it leaves it open")
    layout.add_argument("--variable", metavar="NAME", help="the pressure's name")
    layout.add_argument("--order", type=lambda text: tuple(text.split(",")), metavar="AXES",
                        help="its axes in the order of the file, slowest first, e.g. time,z,x")  # fmt: skip
    layout.add_argument("--lengths", type=half_heights, nargs=2, metavar=("LX", "LZ"),
                        help="periods along x and z in half heights, e.g. 4pi 4/3pi")  # fmt: skip
    layout.add_argument("--wall", choices=[*WALLS, "both"], help="which wall it is of, or which of both to take")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output")
    add_json(parser)


def add_sensor_arguments(parser: Parser) -> None:
    parser.add_argument("source", type=Path, metavar="PLANES.zarr", help="a file of the wall-pressure format")
    parser.add_argument("--output", type=Path, required=True, metavar="MEASUREMENT.zarr",
                        help="the measurement, a new file")  # fmt: skip
    parser.add_argument("--index", type=int, default=0, metavar="I", help="number of the plane (default 0)")
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--fraction", type=float, metavar="FRACTION",
                       help="sensors on this fraction of the points, at random")  # fmt: skip
    where.add_argument("--lattice", type=float, nargs=2, metavar=("DX", "DZ"),
                       help="spacings of sensors along x and z, in wall units")  # fmt: skip
    where.add_argument("--positions", type=Path, metavar="FILE.csv", help="columns x_plus and z_plus, in wall units")
    parser.add_argument("--noise-std", type=float, required=True, metavar="STD",
                        help="standard deviation of the noise, in rho u_tau^2")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of places and noise (default 0)")
    for old, new in (("--sample", "--index"), ("--share", "--fraction"), ("--noise", "--noise-std")):
        parser.rename(old, new)
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output")
    add_json(parser)


PLANES = Subcommand(_PLANES, add_plane_arguments, deferred("infield.pipelines.wall_pressure.convert:run_planes"))
SENSORS = Subcommand(_SENSORS, add_sensor_arguments, deferred("infield.pipelines.wall_pressure.convert:run_sensors"))
