"""21 cm lightcones of the simulator 21cmFAST 4, over a Latin hypercube of astrophysical parameters.

    infield simulate 21cm -n 256 -o cones.zarr
    infield simulate 21cm -n 64 --at ION_Tvir_MIN=4.8 --at HII_EFF_FACTOR=131.341 -o ensemble.zarr
    infield simulate 21cm -n 8 --points 32 --with N_STEP_TS=10 --with HIRES_TO_LOWRES_FACTOR=2 -o quick.zarr

It needs the extra: pip install 'infield[cm21]', or --python with another Python that has py21cmfast. Sources have a
constant ionising efficiency, spin temperatures are computed; without --range the box is ION_Tvir_MIN 4 to 6 (log10 K)
and HII_EFF_FACTOR 10 to 250, and X_RAY_Tvir_MIN is the same as ION_Tvir_MIN. One cone is one process with one thread;
--workers sets how many run at a time. A killed run resumes when the same command is given again, with the same
cones. The file also keeps the density of the initial conditions, with which `fit_emulator.yaml` trains. One of 64 x 64
x 520 cells takes about three minutes of a core, one of 32 x 32 x 256 with coarse settings ten seconds.
"""

from __future__ import annotations

from pathlib import Path

from infield.pipelines.run.options import Parser
from infield.pipelines.run.run_options import add_run_arguments
from infield.pipelines.run.subcommand import deferred


def add_arguments(parser: Parser) -> None:
    parser.add_argument("--output", type=Path, required=True, metavar="CONES.zarr", help="the lightcones, a new file")
    parser.add_argument("--points", type=int, default=64, metavar="N", help="cells across (default 64)")
    parser.add_argument("--box-size", type=float, default=128.0, metavar="MPC",
                        help="size across, in comoving Mpc (default 128)")  # fmt: skip
    parser.add_argument("--depth", type=int, default=256, metavar="CELLS",
                        help="cells along the line of sight (default 256)")  # fmt: skip
    parser.add_argument("--redshift", type=float, default=7.51, metavar="Z",
                        help="redshift of the nearest cell (default 7.51)")  # fmt: skip
    parser.add_argument("--range", dest="ranges", nargs=3, action="append", default=[], metavar=("NAME", "LOW", "HIGH"),
                        help="a parameter that varies, by 21cmFAST's name; may be repeated")  # fmt: skip
    parser.add_argument("--at", dest="fixed", action="append", default=[], metavar="NAME=VALUE",
                        help="a parameter that is the same in all cones; may be repeated")  # fmt: skip
    parser.add_argument("--with", dest="settings", action="append", default=[], metavar="NAME=VALUE",
                        help="another setting of 21cmFAST, e.g. --with L_X=40; may be repeated")  # fmt: skip
    parser.add_argument("--python", metavar="PATH", help="a Python that has py21cmfast, where this one has not")
    parser.rename("--n", "--samples")
    parser.rename("--box", "--box-size")
    add_run_arguments(parser, samples=16, of="cones")


run = deferred("infield.pipelines.cm21.simulate:run")
