"""Options of all commands: one parser, one table of short forms, old names that still work.

An option is written out in full: no command takes the beginning of a name for the whole (`allow_abbrev=False`). An
option that is given and has no effect is refused by the command, in one line.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

from infield.core.errors import InfieldError
from infield.core.local_path import local_path
from infield.core.version import __version__

SHORT_FORMS = {
    "-n": ("--samples", "--draws"),
    "-j": ("--workers",),
    "-q": ("--quiet",),
    "-V": ("--version",),
    "-o": ("--output",),
}
"""Short form -> the options that have it, in whatever command: `-n` is how many are drawn, in all or of each."""


class Renamed(NamedTuple):
    """An option's name of an earlier version.

    Arguments:
        new: Name of today.
        when: Whether the earlier option is meant, given its value (None if it has none); None for always.
    """

    new: str
    when: Callable[[str | None], bool] | None = None


class Parser(argparse.ArgumentParser):
    """A parser whose errors are one line, and which takes no abbreviations; paths are those of `local_path`.

    Options get their short forms from `SHORT_FORMS`; those with a new name are found under the earlier one, see
    `rename`.
    """

    def __init__(self, *words: Any, **settings: Any) -> None:
        self.renamed: dict[str, Renamed] = {}
        as_written = argparse.RawDescriptionHelpFormatter
        super().__init__(*words, **{"allow_abbrev": False, "formatter_class": as_written, **settings})
        self.register("type", Path, _path)  # groups of options have it too

    def add_argument(self, *names: Any, **settings: Any) -> argparse.Action:
        short = [form for form, options in SHORT_FORMS.items() if form not in names and set(options) & set(names)]
        return super().add_argument(*short, *names, **settings)

    def error(self, message: str) -> NoReturn:
        raise InfieldError(message, remedy=f"'{self.prog} --help' lists the options")

    def rename(self, old: str, new: str, when: Callable[[str | None], bool] | None = None) -> None:
        """Let the earlier name of an option stand for it, with a warning on standard error, for one minor version.

        Arguments:
            old: The earlier name.
            new: That of today.
            when: As `Renamed`.
        """
        self.renamed[old] = Renamed(new, when)

    def parse_known_args(self, args: Any = None, namespace: Any = None, **more: Any) -> Any:  # type: ignore[override]
        return super().parse_known_args(self._renamed(sys.argv[1:] if args is None else args), namespace, **more)

    def _renamed(self, arguments: Sequence[str]) -> list[str]:
        """The arguments with today's names of options."""
        found = list(arguments)
        warned = set()
        for i, word in enumerate(found):
            if word == "--":
                break
            name, equals, value = word.partition("=")
            if name not in self.renamed:
                continue
            new, when = self.renamed[name]
            after = found[i + 1] if i + 1 < len(found) and not found[i + 1].startswith("-") else None
            if when is not None and not when(value if equals else after):
                continue
            found[i] = new + equals + value
            if name not in warned:
                warned.add(name)
                print(f"{self.prog}: {name} is now {new}; the old name goes in the next minor version", file=sys.stderr)
        return found


def _path(text: str) -> Path:
    try:
        return local_path(text)
    except InfieldError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def add_common(parser: argparse.ArgumentParser) -> None:
    """Options of every command and of every command within one."""
    parser.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser.add_argument(
        "--version", action="version", version=f"infield {__version__}", help="print the version and leave"
    )


def add_json(parser: argparse.ArgumentParser, default: Any = False) -> None:
    """`--json` and `--quiet`: what a command prints in the end, and meanwhile."""
    switch = {"action": "store_true", "default": default}
    parser.add_argument("--json", **switch, help="print one JSON object instead of a table; implies --quiet")
    parser.add_argument("--quiet", **switch, help="no table and no progress; warnings and errors stay")


@contextmanager
def silence(quiet: bool) -> Iterator[None]:
    """No tables and no progress for a while, from any module: the effect of `--quiet`."""
    token = _silent.set(quiet or _silent.get())
    try:
        yield
    finally:
        _silent.reset(token)


def is_silent() -> bool:
    """Whether tables and progress are left out."""
    return _silent.get()


_silent: ContextVar[bool] = ContextVar("silent", default=False)


def check_records(path: Path | None) -> None:
    """Refuse a file of records in a folder that does not exist.

    Raises:
        InfieldError: It does not.
    """
    if path is not None and not path.parent.is_dir():
        raise InfieldError(
            where=f"--records {path}",
            found=f"no folder {path.parent}",
            expected="one that exists",
            remedy="make it first",
        )


def check_at_least(least: float, **values: float | None) -> None:
    """Refuse numbers that are too small.

    Arguments:
        least: The smallest that is allowed.
        values: By the names of their options, with underscores; None for an option that is not given.

    Raises:
        InfieldError: One is smaller.
    """
    for name, value in values.items():
        if value is not None and not value >= least:
            raise InfieldError(where=f"--{name.replace('_', '-')}", found=value, expected=f"at least {least}")


def check_positive(**values: float | None) -> None:
    """Refuse numbers that are not above zero, infinity and NaN; otherwise as `check_at_least`."""
    for name, value in values.items():
        if value is not None and not 0 < value < math.inf:
            raise InfieldError(where=f"--{name.replace('_', '-')}", found=value, expected="a finite number above zero")


def refuse_without(needed: str, given: bool, arguments: argparse.Namespace, *names: str) -> None:
    """Refuse options that have an effect only beside another.

    Arguments:
        needed: The other option, as a person writes it.
        given: Whether it is given.
        arguments: All options.
        names: Names in `arguments` of those that need it; None, False and an empty list stand for "not given".

    Raises:
        InfieldError: One of them is given without it.
    """
    for name in names if not given else ():
        value = getattr(arguments, name)
        if value is not None and value is not False and value != []:
            raise InfieldError(where=f"--{name.replace('_', '-')}", found=f"no {needed}", expected="one with it")
