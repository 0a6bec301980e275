"""Options of the bench in `steps`; imports nothing heavy."""

from __future__ import annotations

import argparse

PARTS = ("integrator", "denoisers", "explain", "smc")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--parts", nargs="+", choices=PARTS, metavar="PART", help=f"some of {', '.join(PARTS)} (default all)"
    )
