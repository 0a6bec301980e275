"""Options of `infield emulate` with a prior of fields: new fields on its grid of training, or on that of a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from infield.pipelines.run.subcommand import deferred

NEEDS = ()


def add_arguments(parser: Any) -> None:
    parser.add_argument("--like", type=Path, metavar="FILE",
                        help="draw on the grid of this file's field: a measurement, a posterior, a data set, netCDF "
                             "(default: the grid of training)")  # fmt: skip


run = deferred("infield.pipelines.commands.emulate_fields:run")
