"""Benches: each prints one table and writes flat records with seed and versions, named peers in the same run.

    infield bench mixture --quick --json mixture.json

`infield bench NAME --help` tells what options a bench has of its own.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path
from typing import Any

from infield.core import registry
from infield.core.errors import InfieldError
from infield.pipelines.run.subcommand import Subcommand, add_subcommands

GROUP = "benches"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    _add_common(parser, quick=False, json=None, seed=0)
    add_subcommands(parser, GROUP, "name", _subcommand, metavar="name", help="which bench")


def _add_common(parser: argparse.ArgumentParser, **default: Any) -> None:
    """Options of every bench, before or behind its name."""
    add, silent = parser.add_argument, argparse.SUPPRESS
    add("--quick", action="store_true", default=default.get("quick", silent), help="few cases, to see that it runs")
    add("--json", type=Path, metavar="FILE", default=default.get("json", silent), help="write the records to this file")
    add("--seed", type=int, default=default.get("seed", silent), help="seed of all cases (default 0)")


def _subcommand(group: str, name: str) -> Subcommand:
    module = registry.load(group, name)

    def add(parser: argparse.ArgumentParser) -> None:
        _add_common(parser)
        if hasattr(module, "add_arguments"):
            module.add_arguments(parser)

    return Subcommand(module.__doc__ or "", add, run)


def run(arguments: argparse.Namespace) -> int:
    """Run a bench. Its module has `run(quick, seed, **options)`; where it has options of its own, `add_arguments` and
    `chosen(arguments)`, which returns the module to run and these options."""
    if arguments.json and not arguments.json.parent.is_dir():
        raise InfieldError(f"--json {arguments.json}: no folder {arguments.json.parent}; make it first")
    module, options = registry.load(GROUP, arguments.name), {}
    if hasattr(module, "chosen"):
        module, options = module.chosen(arguments)
    bench = module.run(quick=arguments.quick, seed=arguments.seed, **options)
    summary = getattr(module, "SUMMARY", statistics.median)
    for metrics in getattr(module, "FIRST_METRICS", ()):  # tables before the last one
        bench.print(metrics, "", summary)
    bench.print(module.METRICS, module.METHOD_NOTE, summary)
    if arguments.json:
        bench.write(arguments.json)
    return 0
