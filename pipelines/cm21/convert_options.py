"""21 cm lightcones as users have them to one file of lightcones."""

from __future__ import annotations

from pathlib import Path

from infield.pipelines.run.options import Parser, add_json
from infield.pipelines.run.subcommand import Subcommand, deferred

_LIGHTCONES = """Lightcones to one file: brightness temperatures (sample, x, y, los) in mK, z ascending.

    infield convert lightcone cone_*.h5 -o cones.zarr
    infield convert lightcone cone.npy --redshifts z.txt --box-size 128 -o cones.zarr

FILE is what 21cmFAST 4 or 3.4 saves (HDF5), a stack of ml21cm (HDF5), numpy arrays (.npz, or .npy as tools21cm has
them), or a FITS cube with frequency first. Redshifts, frequencies and comoving distances become coordinates; the
parameters and the seed of each cone, if the file holds them, variables. Cones of one file are of one box and one
line of sight. A killed run resumes.
"""


def add_arguments(parser: Parser) -> None:
    parser.add_argument("sources", type=Path, nargs="+", metavar="FILE", help="the lightcones")
    parser.add_argument("--output", type=Path, required=True, metavar="CONES.zarr", help="the lightcones, a new file")
    parser.add_argument("--variable", metavar="NAME", help="field of the file (default brightness_temp)")
    parser.add_argument(
        "--depth", type=int, metavar="CELLS", help="cells to keep, from the lowest redshift on (default all)"
    )
    parser.add_argument("--parameters", type=lambda text: tuple(text.split(",")), metavar="NAMES",
                        help="parameters to keep (default ION_Tvir_MIN, HII_EFF_FACTOR and what varies)")  # fmt: skip
    plain = parser.add_argument_group("plain arrays and cubes, where the file leaves it open")
    plain.add_argument("--redshifts", type=Path, metavar="FILE", help="redshifts of the cells: .npy, or one a line")
    plain.add_argument("--box-size", type=float, metavar="MPC", help="size across, in comoving Mpc")
    plain.add_argument("--hubble", type=float, metavar="H0", help="Hubble constant, in km/s/Mpc (default 67.66)")
    plain.add_argument("--omega-m", type=float, metavar="OM",
                       help="density of matter, as a fraction of the critical one (default 0.3096)")  # fmt: skip
    plain.add_argument("--units", choices=["mK", "K"], help="of the temperatures (default mK)")
    parser.add_argument("--resample", action="store_true",
                        help="interpolate along the line of sight to even comoving distances")  # fmt: skip
    parser.rename("--box", "--box-size")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output")
    add_json(parser)


LIGHTCONES = Subcommand(_LIGHTCONES, add_arguments, deferred("infield.pipelines.cm21.convert:run"))
