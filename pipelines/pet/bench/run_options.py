"""Options of the bench in `run`; imports nothing heavy."""

from __future__ import annotations

import argparse
from pathlib import Path

PARTS, TRUTHS = ("projector", "chain", "counts"), 10
"""As in `pet.bench.run`, which is heavy."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--parts", nargs="+", choices=PARTS, metavar="PART", help=f"some of {', '.join(PARTS)}")
    parser.add_argument("--truths", type=int, metavar="N", help=f"truths (default {TRUTHS}, quick 1)")
    parser.add_argument(
        "--keep",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="take finished cases from these files and add those of this run to the first, to resume a stopped run",
    )
