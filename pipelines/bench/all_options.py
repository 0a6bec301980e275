"""Options of `infield bench all`; imports nothing heavy."""

from __future__ import annotations

import argparse

from infield.core import registry


def add_arguments(parser: argparse.ArgumentParser) -> None:
    names = [name for name in registry.names("benches") if name != "all"]
    parser.add_argument("--only", nargs="+", choices=names, metavar="NAME", help="some of them (default all)")
