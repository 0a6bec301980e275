"""Data sets of simulated fields, with the solutions of a partial differential equation for each.

    infield simulate darcy -o DATA.zarr --samples 1000 --points 64 --seed 0
    infield simulate process --law gibbs -o DATA.zarr --samples 20000 --points 128
    infield simulate brain -o BRAINS.zarr --samples 8192 --points 128
    infield simulate channel --re-tau 180 --box minimal -o CHANNEL.zarr
    infield simulate wall-pressure --re-tau 500 --length 16pi -o LONG.zarr
    infield simulate 21cm -n 256 -o CONES.zarr
    infield simulate pet -n 2000 -o PET.zarr
    infield simulate projection -o CAPTURES --surface corner
    infield simulate pictures -o PICTURES.zarr --samples 20000 --points 32

Kinds: darcy, poisson, helmholtz, navier-stokes (variables coefficient and solution), process (variable field), brain
(variable image, complex slices of synthetic heads; needs the extra mri), channel, one turbulent flow in time,
wall-pressure, 21cm, lightcones of 21cmFAST (needs the extra cm21), pet, a synthetic cohort of longitudinal amyloid
PET (needs the extra pet), projection, captures of projectors on a surface (needs the extra projection), and pictures
(variable picture, dead leaves in sRGB codes).
`infield simulate KIND --help` lists the options of each; all of them take --json and --quiet. A prior is trained on
such a file by `infield fit`. A killed run resumes when the same command is given again;
sample i depends on the seed and on i alone (of 21cm on the number of cones too).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from infield.core import registry
from infield.pipelines.run.options import Parser
from infield.pipelines.run.run_options import add_run_arguments
from infield.pipelines.run.subcommand import Subcommand, add_subcommands, deferred, subcommand

PROCESSES = ("matern", "gibbs", "truncated", "log-normal", "mixture")
"""Names in `priors.random_fields.processes`, which is heavy."""


GROUP = "simulators"


def add_arguments(parser: Parser) -> None:
    add_subcommands(parser, GROUP, "kind", metavar="KIND", help="what is simulated")


def run(arguments: argparse.Namespace) -> int:
    with registry.plugins_recorded():  # the file names them
        return subcommand(GROUP, arguments.kind).run(arguments)


def add_field_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, required=True, metavar="DATA.zarr", help="the data set, a new file")
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--shape", type=int, nargs="+", metavar="N", help="points along each axis, slowest first")
    size.add_argument("--points", type=int, metavar="N",
                      help="points along every axis (default 64 on two axes; 128 of a brain, or on one axis for a "
                      "process)")  # fmt: skip
    parser.add_argument("--law", metavar="NAME", help=f"of a process: {', '.join(PROCESSES)}")
    parser.add_argument("--with", dest="settings", action="append", default=[], metavar="PARAMETER=VALUE",
                        help="a parameter of law or equation, e.g. --with tau=5; may be repeated")  # fmt: skip
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32",
                        help="precision of the file (default float32; everything is computed in float64)")  # fmt: skip
    add_run_arguments(parser, samples=1000)


FIELDS = Subcommand(__doc__ or "", add_field_arguments, deferred("infield.pipelines.commands.simulate:run_fields"))
