"""Benches: each prints one table and writes flat records with seed and versions, named peers in the same run.

    infield bench mixture --quick --records mixture.json

`infield bench NAME --help` lists a bench's own options.
"""

from __future__ import annotations

import argparse
import ast
import importlib
import statistics
from collections.abc import Callable
from importlib.abc import InspectLoader
from importlib.util import find_spec
from pathlib import Path

from infield.core import registry
from infield.core.json_text import to_json
from infield.pipelines.run.options import Parser, add_json, check_at_least, check_records, silence
from infield.pipelines.run.subcommand import Subcommand, add_subcommands

GROUP = "benches"


def add_arguments(parser: Parser) -> None:
    _add_common(parser)
    parser.set_defaults(quick=False, records=None, seed=0, json=False, quiet=False)
    add_subcommands(parser, GROUP, "name", _subcommand, metavar="name", help="which bench")


def _add_common(parser: Parser) -> None:
    """Options of every bench, before or behind its name: without defaults, so that the second leaves the first."""
    silent = argparse.SUPPRESS
    add = parser.add_argument
    add("--quick", action="store_true", default=silent, help="few cases, to check that it runs")
    add("--records", type=Path, metavar="FILE", default=silent, help="write the records to this file, as JSON")
    add("--seed", type=int, metavar="N", default=silent, help="seed of all cases (default 0)")
    add_json(parser, default=silent)
    parser.rename("--json", "--records", when=_is_file)


def _is_file(value: str | None) -> bool:
    """Whether what follows `--json` is a file for the records, as it was once, and no name of a bench."""
    return value is not None and not registry.known(GROUP, value)


def _subcommand(group: str, name: str) -> Subcommand:
    doc, add_own = _doc_and_options(registry.find(group, name), group, name)

    def add(parser: Parser) -> None:
        _add_common(parser)
        if add_own is not None:
            add_own(parser)

    return Subcommand(doc, add, run)


def _doc_and_options(entry: registry.Entry, group: str, name: str) -> tuple[str, Callable[[Parser], None] | None]:
    """The docstring of a bench and the function that adds its options, without importing the bench if possible.

    `NAME_options.py` beside a bench `NAME.py` holds `add_arguments(parser)`. A bench that defines it itself, or whose
    source is not at hand, is imported.
    """
    try:
        spec = None if ":" in entry.target else find_spec(entry.target)
        source = spec.loader.get_source(entry.target) if spec and isinstance(spec.loader, InspectLoader) else None
    except ImportError:
        source = None
    tree = ast.parse(source or "")
    own = any(isinstance(node, ast.FunctionDef) and node.name == "add_arguments" for node in tree.body)
    if source is None or own:
        module = registry.load(group, name)
        return module.__doc__ or "", getattr(module, "add_arguments", None)
    options = f"{entry.target}_options"
    add = importlib.import_module(options).add_arguments if find_spec(options) else None
    return ast.get_docstring(tree) or "", add


def run(arguments: argparse.Namespace) -> int:
    """Run a bench. Its module has `run(quick, seed, **options)`; if it has options of its own, `add_arguments(parser)`
    there or in `NAME_options.py`, and `chosen(arguments)`, which returns the module to run and these options."""
    check_at_least(0, seed=arguments.seed)
    records = arguments.records
    check_records(records)
    module, options = registry.load(GROUP, arguments.name), {}
    if hasattr(module, "chosen"):
        module, options = module.chosen(arguments)
    with silence(arguments.json):
        bench = module.run(quick=arguments.quick, seed=arguments.seed, **options)
    if records:
        bench.write(records)
    if arguments.json:
        print(to_json(bench.document))
    if arguments.json or arguments.quiet:
        return 0
    summary = getattr(module, "SUMMARY", statistics.median)
    for metrics in getattr(module, "FIRST_METRICS", ()):  # tables before the last one
        bench.print(metrics, "", summary)
    bench.print(module.METRICS, module.METHOD_NOTE, summary)
    return 0
