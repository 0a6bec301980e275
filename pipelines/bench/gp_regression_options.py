"""Options of the bench in `gp_regression`; imports nothing heavy."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--prior",
        choices=("closed-form", "learned"),
        default="closed-form",
        help="closed-form, or a network that learned it (default closed-form)",
    )
    learned = parser.add_argument_group("with --prior learned")
    learned.add_argument("--kernel", choices=("matern", "gibbs"), help="one law (default both)")
    learned.add_argument(
        "--checkpoint", type=Path, metavar="FILE", help="prior of that kernel; with --train, a new file"
    )
    learned.add_argument("--train", action="store_true", help="train anew, minutes for each law")
