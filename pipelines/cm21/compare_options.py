"""Two ensembles of 21 cm lightcones beside each other: a report of one HTML file, and scores.

    infield compare-cones simulated.zarr emulated.zarr -o report.html
    infield compare-cones cones.zarr cones.zarr --first 0-31 --second 32-63 -o halves.html

The first is the reference. Scores are those of Xia & Wise (arXiv 2605.29016): mean absolute differences of medians over
the reference's spread (MAE_std) and of spreads (MAE_sigma), of global signal, exact zeros, power spectra of chunks of
redshift (spherical and cylindrical) and scattering coefficients; each beside its floor, what two ensembles of one law
and of these sizes score, from random halves of the reference. Cones are read a few at a time.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from infield.pipelines.run.options import add_json
from infield.pipelines.run.subcommand import deferred


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("reference", type=Path, metavar="A.zarr", help="the reference ensemble")
    parser.add_argument("other", type=Path, metavar="B.zarr", help="what is compared with it")
    parser.add_argument("--output", type=Path, required=True, metavar="REPORT.html", help="the report, a new file")
    parser.add_argument("--first", metavar="A-B", help="members of the reference (default all)")
    parser.add_argument("--second", metavar="A-B", help="members of the other (default all)")
    parser.add_argument("--chunk", type=int, metavar="CELLS",
                        help="cells of a chunk of the line of sight (default: as deep as a cone is wide)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="seed of halves and bootstrap (default 0)")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing report")
    add_json(parser)


run = deferred("infield.pipelines.cm21.compare:run")
