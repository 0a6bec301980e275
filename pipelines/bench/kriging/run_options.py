"""Options of the bench in `run`; imports nothing heavy."""

from __future__ import annotations

import argparse
from pathlib import Path

PARTS = ("points", "dense-cells", "large", "shapes", "real", "calibration", "counts", "trust")
NAMES = (
    "gpboost",
    "gpboost-anisotropic",
    "gpboost-space-time",
    "gpboost-free-order",
    "scikit-learn",
    "gpytorch",
    "pykrige",
    "pykrige-32",
    "gstools",
    "nifty",
)
"""Names in `bench.kriging.run`, which is heavy."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, metavar="PART", help=f"some of {', '.join(PARTS)} (default all)"
    )
    parser.add_argument("--truths", type=int, metavar="N", help="fields a case (default 10, 1 when quick)")
    parser.add_argument(
        "--peers", nargs="*", choices=NAMES, metavar="PEER", help=f"some of {', '.join(NAMES)} (default all)"
    )
    parser.add_argument("--only", default="", metavar="TEXT", help="cases whose name holds this text (default all)")
    parser.add_argument(
        "--keep",
        type=Path,
        nargs="+",
        metavar="FILE",
        help="take finished cases from these files and add those of this run to the first, to resume a stopped run",
    )
    parser.add_argument("--judge", action="store_true", help="run nothing: judge what the files of --keep hold")
    parser.add_argument("--full", action="store_true", help="also what takes hours: 100,000 points, slopes of cost")
    parser.add_argument(
        "--memory", type=float, default=12.0, metavar="GIB", help="most that a process may hold, in GiB (default 12)"
    )
    parser.add_argument(
        "--cpu",
        type=float,
        default=3600.0,
        metavar="SECONDS",
        help="most of a core that it may use, in seconds (default 3600)",
    )
