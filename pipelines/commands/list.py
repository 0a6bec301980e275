"""What there is, by name.

    infield list configs          # configurations of `infield fit --config NAME`
    infield list priors           # what `--prior NAME` takes
    infield list samplers         # what `--sampler NAME` takes

Also operators, noise-models, networks, kernels, readers, converters, simulators and benches.
"""

from __future__ import annotations

import argparse

from infield.core.json_text import to_json
from infield.pipelines.run.names import KINDS, table_of
from infield.pipelines.run.options import add_json, is_silent


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("kind", choices=KINDS, metavar="KIND", help=f"one of {', '.join(KINDS)}")
    add_json(parser)


def run(arguments: argparse.Namespace) -> int:
    names = table_of(arguments.kind)
    if arguments.json:
        print(to_json(names.rows))
    elif not is_silent():
        print(names)
    return 0
