"""Options of the bench in `kriging_counts`; imports nothing heavy."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--truths", type=int, metavar="N", help="fields a mean count (default 10, 1 when quick)")
    parser.add_argument("--peer-truths", type=int, metavar="N", help="of them those that NIFTy is given (default all)")
    parser.add_argument("--side", type=int, metavar="CELLS", help="cells along a side (default 64, 16 when quick)")
