"""Options of `infield emulate` with a bridge of amyloid PET: the follow-up of a baseline scan."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from infield.pipelines.run.subcommand import deferred

NEEDS = ("baseline",)
BAND = 0.03
"""As in `pipelines.pet.emulate`, which is heavy."""


def add_arguments(parser: Any) -> None:
    parser.add_argument("--from", dest="baseline", type=Path, metavar="BASELINE",
                        help="SUVR in MNI152: NIfTI, a file of `convert pet` or of `simulate pet`")  # fmt: skip
    parser.add_argument("--index", type=int, metavar="N", help="subject of a file of `simulate pet`, from 0")
    parser.add_argument("--years", type=float, metavar="YEARS",
                        help="years to the follow-up (default that of the file, where it holds one)")  # fmt: skip
    parser.add_argument("--mri", type=Path, metavar="T1",
                        help="T1-weighted MRI in MNI152, for tissues (default the template's)")  # fmt: skip
    parser.add_argument("--grey-matter", type=Path, metavar="MAP",
                        help="fractions of grey matter on the baseline's grid, in place of --mri")  # fmt: skip
    parser.add_argument("--units", metavar="UNITS", help="SUVR, for NIfTI that does not state it")
    parser.add_argument("--band", type=float, metavar="FRACTION",
                        help=f"test-retest band as a fraction of the baseline (default {BAND:g})")  # fmt: skip
    parser.add_argument("--accept-synthetic", action="store_true",
                        help="take a prior of synthetic data for a file that is not synthetic")  # fmt: skip
    parser.add_argument("--regions-only", action="store_true", help="draw regional means alone, and no images")
    parser.add_argument("--nifti", type=Path, metavar="PREFIX",
                        help="write maps as PREFIX_NAME.nii.gz on the affine of BASELINE")  # fmt: skip
    parser.add_argument("--report", type=Path, metavar="REPORT.html", help="write a page about the prediction too")


run = deferred("infield.pipelines.pet.emulate:run")
