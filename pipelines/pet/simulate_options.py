"""A synthetic longitudinal cohort of amyloid PET: baseline and follow-up of subjects, their MRI maps and the truth.

    infield simulate pet --samples 2000 -o pet.zarr
    infield simulate pet --samples 100 --volumes -o volumes.zarr
    infield simulate pet --samples 600 --with ref=0.03 --with counts=1e5 -o other.zarr
    infield simulate pet --samples 600 --second-cohort -o second.zarr

Five slices of 48 x 56 points, 4 mm apart in their plane, 18 mm between them; --volumes has 29, 4 mm apart. Amyloid
follows a law of Infield's own in 26 regions of Infield's own (`infield.datasets.pet.amyloid_law`), the anatomy is that
of the MNI152 template that the package nilearn carries; images are reconstructed by OSEM from counts that were drawn on
a finer grid. Nothing of it is a patient's. The second cohort, of another tracer gain, point spread, number of counts
and rate, is for tests. A killed run resumes when the same command is given again; subject i depends on the
seed and on i alone.
"""

from __future__ import annotations

from pathlib import Path

from infield.pipelines.run.options import Parser
from infield.pipelines.run.run_options import add_run_arguments
from infield.pipelines.run.subcommand import deferred

OF_LAW = ("ref", "rate_sd", "rate", "capacity", "accumulators")
OF_SCANNER = ("counts", "randoms", "psf", "angles", "subsets", "iterations", "filter")
"""Parameters of `datasets.pet.amyloid_law.AmyloidLaw` and of `datasets.pet.scanner.Scanner`, which are heavy."""


def add_arguments(parser: Parser) -> None:
    parser.add_argument("--output", type=Path, required=True, metavar="PET.zarr", help="the cohort, a new file")
    parser.add_argument("--volumes", action="store_true", help="29 slices, 4 mm apart, in place of five")
    parser.add_argument("--years", type=float, nargs=2, default=(0.5, 5.0), metavar=("LEAST", "MOST"),
                        help="years between the scans (default 0.5 5)")  # fmt: skip
    parser.add_argument("--second-cohort", action="store_true", help="the cohort that is for tests only")
    parser.add_argument("--with", dest="settings", action="append", default=[], metavar="NAME=VALUE",
                        help=f"one of {', '.join((*OF_LAW, *OF_SCANNER))}; may be repeated")  # fmt: skip
    parser.rename("--n", "--samples")
    add_run_arguments(parser, samples=2000, of="subjects")


run = deferred("infield.pipelines.pet.simulate:run")
