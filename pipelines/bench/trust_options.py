"""Options of `infield bench trust`; imports nothing heavy."""

from __future__ import annotations

import argparse
from pathlib import Path

PARTS = ("faults", "around", "prior", "flow", "check", "light")
"""Names in `bench.trust`, which is heavy."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--parts", nargs="+", choices=PARTS, help="what to run (default all)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="finished cases, to resume a stopped run")
