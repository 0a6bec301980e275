"""Options of the bench in `run`; imports nothing heavy."""

from __future__ import annotations

import argparse
from pathlib import Path

PARTS = ("solver", "calibration", "inside", "outside", "seams", "cooperation", "pictures")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--parts", nargs="+", choices=PARTS, metavar="PART", help=f"some of {', '.join(PARTS)}")
    parser.add_argument(
        "--height", type=int, metavar="N", help="of the camera's image, in pixels (default 60, quick 36)"
    )
    parser.add_argument("--pictures", type=int, metavar="N", help="of the 12 photographs, the first N (default all)")
    parser.add_argument("--keep", type=Path, metavar="FILE", help="store finished parts here, and skip those it holds")
