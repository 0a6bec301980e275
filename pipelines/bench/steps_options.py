"""Options of the bench in `steps`; imports nothing heavy."""

from __future__ import annotations

import argparse
from pathlib import Path

PARTS = ("integrator", "slice", "denoisers", "explain", "smc", "mixture", "nonlinear", "chains")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, metavar="PART", help=f"some of {', '.join(PARTS)} (default all)"
    )
    parser.add_argument("--cases", type=int, metavar="N", help="at most N cases of a part that has many (default all)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="finished cases, to resume a stopped run")
