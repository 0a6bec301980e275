"""Options of `infield bench trust-mri`; imports nothing heavy."""

from __future__ import annotations

import argparse
from pathlib import Path

PARTS, HEADS_FIT, HEADS_JUDGED, LEVELS = ("check", "mending"), 80, 100, 8
"""As in `mri.bench.trust`, which is heavy."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to run (default all)")
    parser.add_argument("--heads", type=int, nargs=2, default=[HEADS_FIT, HEADS_JUDGED], metavar=("FIT", "JUDGED"),
                        help=f"heads of the mending (default {HEADS_FIT} {HEADS_JUDGED})")  # fmt: skip
    parser.add_argument("--levels", type=int, default=LEVELS, metavar="N", help=f"of faps (default {LEVELS})")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="finished cases, to resume a stopped run")
