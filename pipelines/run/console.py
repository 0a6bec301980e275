"""What a person sees while waiting, and in the end: progress with time left, short tables."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table


def progress(*, quiet: bool = False) -> Progress:
    """A progress bar with time left on standard error; nothing where that is no terminal."""
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        disable=quiet or _silent.get() or not sys.stderr.isatty(),
    )


@contextmanager
def no_progress(quiet: bool = True) -> Iterator[None]:
    """No progress bars for a while, whoever makes them."""
    token = _silent.set(quiet)
    try:
        yield
    finally:
        _silent.reset(token)


_silent: ContextVar[bool] = ContextVar("silent", default=False)


def say(line: str, *, quiet: bool = False) -> None:
    """One line on standard error."""
    if not quiet:
        print(line, file=sys.stderr)


def table(title: str, rows: Mapping[str, str], *, quiet: bool = False) -> None:
    """A two-column table on standard output."""
    if quiet:
        return
    sheet = Table(title=title, show_header=False)
    for name, value in rows.items():
        sheet.add_row(name, value)
    Console().print(sheet)
