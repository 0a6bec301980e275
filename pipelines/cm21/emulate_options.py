"""Options of `infield emulate` with a prior of lightcones: an ensemble at given parameters, of any depth.

The line of sight is that of the prior, or the part of it that --redshift-range and --depth select; memory does not grow
with it. A run that was killed resumes when the same command is given again, and gives the same lightcones; each one
depends on its `random_seed`, its parameters and the size.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from infield.pipelines.run.subcommand import deferred

NEEDS = ("params",)


def add_arguments(parser: Any) -> None:
    parser.add_argument("--params", type=Path, metavar="PARAMS.yaml", help="astrophysical parameters")
    parser.add_argument("--depth", type=int, metavar="CELLS",
                        help="cells along the line of sight (default: all of it)")  # fmt: skip
    parser.add_argument("--redshift-range", type=float, nargs=2, metavar=("LOW", "HIGH"),
                        help="lowest and highest redshift (default: all that the prior covers)")  # fmt: skip
    parser.add_argument("--points", type=int, metavar="N", help="cells across (default: as in training)")


run = deferred("infield.pipelines.cm21.emulate:run")
