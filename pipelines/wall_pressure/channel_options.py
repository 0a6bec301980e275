"""Turbulent channel flow by direct numerical simulation: wall pressure and plane averages.

    infield simulate channel --re-tau 180 --box minimal -o channel.zarr
    infield simulate channel --re-tau 180 --box full --device cuda --turnovers 40 -o channel.zarr

Time is in eddy turnovers h / u_tau. The box `minimal` (565 x 192 wall units, 32 x 65 x 32 points at Re_tau 180) takes
about half a minute of one core a turnover; its statistics are right near the walls only. The box `full` (4 pi x 4/3 pi,
128 x 129 x 128 points) is meant for a GPU. A killed run resumes when the same command is given again, and ends
with the same bytes.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

from infield.pipelines.run.options import add_json
from infield.pipelines.run.subcommand import deferred

BOXES = ("minimal", "full")
LARGEST_CFL = math.sqrt(3)
"""As in `physics.wall_pressure.channel`, which is heavy."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, required=True, metavar="CHANNEL.zarr", help="the flow, a new file")
    parser.add_argument(
        "--re-tau", type=float, default=180.0, metavar="RE", help="friction Reynolds number, u_tau h / nu (default 180)"
    )
    parser.add_argument("--box", choices=list(BOXES), default="minimal", help="periods in x and z (default minimal)")
    parser.add_argument("--points", type=int, nargs=3, metavar=("NX", "NY", "NZ"),
                        help="points in x, y and z; NX and NZ even (default: the box's own)")  # fmt: skip
    parser.add_argument("--turnovers", type=float, default=15.0, metavar="T",
                        help="time that is stored, in eddy turnovers h / u_tau (default 15)")  # fmt: skip
    parser.add_argument("--spin-up", type=float, default=10.0, metavar="T",
                        help="time before, in which turbulence develops, in eddy turnovers (default 10)")  # fmt: skip
    parser.add_argument("--interval", type=float, default=0.05, metavar="T",
                        help="time between stored ones, in eddy turnovers (default 0.05)")  # fmt: skip
    parser.add_argument("--cfl", type=float, default=1.0, metavar="C",
                        help=f"time step times the largest frequency of advection, at most {LARGEST_CFL:.3g} to be "
                        "stable (default 1)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of the first state (default 0)")
    parser.add_argument("--device", default="cpu", help="where it runs: cpu, cuda (default cpu)")
    parser.add_argument("--threads", type=int, metavar="N",
                        help="CPU threads (default 1: more gain little, and slow a busy machine)")  # fmt: skip
    parser.add_argument("--dtype", choices=["float32", "float64"], default="float32",
                        help="precision of stored pressures (default float32; all is computed in float64)")  # fmt: skip
    parser.add_argument("--overwrite", action="store_true", help="replace an existing output once the new one is done")
    add_json(parser)


run = deferred("infield.pipelines.wall_pressure.channel:run")
