"""Planes of a SYNTHETIC stand-in for the wall pressure of a turbulent channel, for domains that no simulation reaches.

    infield simulate wall-pressure --re-tau 500 --length 16pi -o long.zarr --samples 100

No flow is computed: a random field with the spectrum, the streamwise correlation lobe and the heavy tails of wall
pressure is drawn (`infield.priors.wall_pressure.synthetic`), in wall units, on a periodic domain. Spacings are the same
at every Reynolds number. The file has the wall-pressure format, with `synthetic` 1; a prior is trained on it by
`infield fit` with the variable `pressure`. A killed run resumes; sample i depends on the seed and on i alone.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from infield.pipelines.run.run_options import add_run_arguments
from infield.pipelines.run.subcommand import deferred
from infield.pipelines.wall_pressure.half_heights import half_heights

DX_PLUS, DZ_PLUS = 4 * math.pi * 180 / 128, 4 / 3 * math.pi * 180 / 64
"""As in `physics.wall_pressure.wall_units`, which is heavy."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, required=True, metavar="PLANES.zarr", help="the planes, a new file")
    parser.add_argument("--re-tau", type=float, required=True, metavar="RE",
                        help="friction Reynolds number, at least 150")  # fmt: skip
    parser.add_argument("--length", type=half_heights, default=4 * math.pi, metavar="LX",
                        help="streamwise period in half heights, e.g. 16pi (default 4pi)")  # fmt: skip
    parser.add_argument("--width", type=half_heights, default=4 / 3 * math.pi, metavar="LZ",
                        help="spanwise period in half heights (default 4/3pi)")  # fmt: skip
    parser.add_argument("--dx-plus", type=float, default=DX_PLUS, metavar="DX",
                        help=f"streamwise spacing in wall units (default {DX_PLUS:.2f})")  # fmt: skip
    parser.add_argument("--dz-plus", type=float, default=DZ_PLUS, metavar="DZ",
                        help=f"spanwise spacing in wall units (default {DZ_PLUS:.2f})")  # fmt: skip
    parser.add_argument("--multiple", type=int, default=2, metavar="N",
                        help="round the numbers of points to multiples of N (default 2)")  # fmt: skip
    parser.add_argument("--flatness", type=float, default=5.0, metavar="K",
                        help="fourth moment over the squared variance, at least 3 (default 5)")  # fmt: skip
    add_run_arguments(parser, samples=100, of="planes")


run = deferred("infield.pipelines.wall_pressure.simulate:run")
