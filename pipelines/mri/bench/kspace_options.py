"""Options of `infield bench kspace`; imports nothing heavy."""

from __future__ import annotations

import argparse
from pathlib import Path

PARTS = ("held-out", "full-size", "accelerated")
METHODS = ("faps-flow", "exact", "zero-filling", "sigpy-cg-sense", "sigpy-l1-wavelet", "sigpy-tv")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to run (default all)")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=list(METHODS),
                        help="on held-out samples (default all; those of penalties take long)")  # fmt: skip
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="finished cases, to resume a stopped run")
