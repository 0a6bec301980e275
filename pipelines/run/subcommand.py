"""Commands within a command, as `infield convert mri`: found in the registry, imported when they are called."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from infield.core import registry


class Subcommand(NamedTuple):
    """What an entry of `converters` or `simulators` leads to; a module with these three serves as well.

    Arguments:
        description: What its help says.
        add_arguments: Adds its options to a parser.
        run: Runs it, and returns the exit status.
    """

    description: str
    add_arguments: Callable[[argparse.ArgumentParser], None]
    run: Callable[[argparse.Namespace], int]


def subcommand(group: str, name: str) -> Subcommand:
    """The command within a command of some name.

    Raises:
        InfieldError: As `registry.load`.
    """
    found = registry.load(group, name)
    return found if isinstance(found, Subcommand) else Subcommand(found.__doc__ or "", found.add_arguments, found.run)


def add_subcommands(
    parser: argparse.ArgumentParser,
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

    class Parser(type(parser)):  # type: ignore[misc]
        name = ""

        def parse_known_args(self, args: Sequence[str] | None = None, namespace: Any = None, **more: Any) -> Any:
            if self.name:
                chosen, self.name = find(group, self.name), ""
                self.description = chosen.description
                chosen.add_arguments(self)
            return super().parse_known_args(args, namespace, **more)

    actions = parser.add_subparsers(dest=dest, required=True, parser_class=Parser, **words)
    for name, entry in registry.table(group).items():
        as_written = argparse.RawDescriptionHelpFormatter
        actions.add_parser(name, help=entry.help, formatter_class=as_written).name = name
