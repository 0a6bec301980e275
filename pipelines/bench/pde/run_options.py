"""Options of the bench in `run`; imports nothing heavy."""

from __future__ import annotations

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--problem", nargs="+", metavar="NAME", help="which equations, by their names (default all)")
    parser.add_argument("--methods", nargs="+", metavar="NAME", help="only methods whose names start so (default all)")
