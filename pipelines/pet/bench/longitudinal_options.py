"""Options of the bench in `longitudinal`; imports nothing heavy."""

from __future__ import annotations

import argparse
from pathlib import Path

PARTS = ("regions", "images")
"""As in `longitudinal`, which is heavy."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--parts", nargs="+", choices=PARTS, metavar="PART", help=f"some of {', '.join(PARTS)}")
    parser.add_argument("--subjects", type=int, metavar="N", help="subjects of images, 30 to 600 (default 600)")
    parser.add_argument(
        "--checkpoints",
        type=Path,
        metavar="FOLDER",
        help="take trained rows and cohorts of an earlier run from this folder, and add those of this run",
    )
