"""Commands within a command, as `infield convert mri`: found in the registry, imported when they are called."""

from __future__ import annotations

import argparse
import gc
import importlib
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any, NamedTuple

from infield.core import registry
from infield.pipelines.run.options import Parser, add_common

CYCLES = 20_000
"""Objects between two searches for cycles while a command runs."""


class Subcommand(NamedTuple):
    """What an entry of `converters` or `simulators` leads to; a module with these three can take its place.

    Arguments:
        description: The text of its help.
        add_arguments: Adds its options to a parser.
        run: Runs it, and returns the exit status.
    """

    description: str
    add_arguments: Callable[[Parser], None]
    run: Callable[[argparse.Namespace], int]


def deferred(target: str) -> Callable[[argparse.Namespace], int]:
    """What runs a command whose module is imported only then, not for its help.

    Arguments:
        target: `"module:function"`.
    """

    def run(arguments: argparse.Namespace) -> int:
        module, _, function = target.partition(":")
        status: int = getattr(_imported(module), function)(arguments)
        return status

    return run


def _imported(name: str) -> ModuleType:
    """A module, imported without the collector of cycles, for which thousands of modules are a sixth of their time.

    What they made is not looked through later on: it stays as long as the process. Nor is a command's run searched for
    cycles every 700 objects, as is usual, but every `CYCLES`: its memory is in arrays, which are none.
    """
    if name in sys.modules or not gc.isenabled():
        return importlib.import_module(name)
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        gc.freeze()
        gc.set_threshold(CYCLES, 20, 20)
        gc.enable()


def subcommand(group: str, name: str) -> Subcommand:
    """The command within a command of some name.

    Raises:
        InfieldError: As `registry.load`.
    """
    found = registry.load(group, name)
    return found if isinstance(found, Subcommand) else Subcommand(found.__doc__ or "", found.add_arguments, found.run)


class LazyParser(Parser):
    """A parser that gets its options when it is used: `command` gives the command that it is for."""

    command: Callable[[], Subcommand] | None = None

    def fill(self) -> None:
        """Add the options, once."""
        if self.command is not None:
            chosen, self.command = self.command(), None
            self.description = chosen.description
            chosen.add_arguments(self)
            add_common(self)

    def parse_known_args(self, args: Any = None, namespace: Any = None, **more: Any) -> Any:  # type: ignore[override]
        self.fill()
        return super().parse_known_args(args, namespace, **more)


def add_subcommands(
    parser: Parser,
    group: str,
    dest: str,
    find: Callable[[str, str], Subcommand] = subcommand,
    **words: Any,
) -> None:
    """Add the commands of a group to a parser; a command's module is imported when the command is parsed.

    Arguments:
        parser: Of the command.
        group: Of the registry.
        dest: Where the name of the chosen one is put.
        find: Gives the command of a name in a group.
        words: For `add_subparsers`.
    """

    actions = parser.add_subparsers(dest=dest, required=True, parser_class=LazyParser, **words)
    for name, entry in registry.table(group).items():
        actions.add_parser(name, help=entry.help).command = lambda name=name: find(group, name)
