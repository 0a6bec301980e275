"""Measurements of one field by several instruments to one measurement.

    infield convert grid satellite.nc -o satellite.zarr --variable sst
    infield convert table buoys.csv -o buoys.zarr --value sst --at lon lat --onto satellite.zarr
    infield convert stack satellite.zarr buoys.zarr -o both.zarr

The files are of one field: the same grid, variables and units; `convert table --onto` brings a table onto the field
of another file. Each instrument keeps its noise model. Levels that files leave open are estimated, one for each
instrument, by `reconstruct` without --prior.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from infield.core.errors import InfieldError
from infield.pipelines.tables.output import add_output_arguments, finish, prepare


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sources", type=Path, nargs="+", metavar="MEASUREMENT.zarr", help="two or more")
    add_output_arguments(parser, "BOTH.zarr")


def run(arguments: argparse.Namespace) -> int:
    from infield.datasets.tables.joined import join  # not for --help

    if len(arguments.sources) < 2:
        raise InfieldError(where=arguments.sources[0], found="one measurement", expected="two or more to stack")
    prepare(arguments)
    arguments.source = Path(" + ".join(path.name for path in arguments.sources))
    return finish(join(arguments.sources), arguments)
