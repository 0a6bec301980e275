"""Options of `infield bench kspace`; imports nothing heavy."""

from __future__ import annotations

import argparse
from pathlib import Path

PARTS = ("held-out", "full-size")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS), help="what to run (default all)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="finished cases, to resume a stopped run")
