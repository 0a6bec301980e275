"""The whole workflow in a minute: a measurement, its prior, posterior samples, and a report that opens in a browser.

    infield demo -o demo

400 thermometers, none of them on the lake, measure the temperature of a square kilometre with an error of 0.3 K. The
truth is drawn from the prior, so that the posterior is known in closed form and every figure has one to compare with.
Given again, the command replaces what it wrote itself, and nothing else; a killed run resumes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from infield.pipelines.run.options import add_json
from infield.pipelines.run.subcommand import deferred


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--output", type=Path, default=Path("demo"), metavar="FOLDER",
                        help="folder of what is written (default demo)")  # fmt: skip
    parser.add_argument("--seed", type=int, default=0, metavar="N",
                        help="seed of truth, noise and samples (default 0)")  # fmt: skip
    add_json(parser)


run = deferred("infield.pipelines.commands.demo:run")
