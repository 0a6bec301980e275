"""Options of the bench in `longitudinal`; imports nothing heavy."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--checkpoints",
        type=Path,
        metavar="FOLDER",
        help="take rows that an earlier run trained from this folder, and add those of this run",
    )
