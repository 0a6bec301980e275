"""Console output: progress with time left, short tables."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from infield.pipelines.run.options import is_silent


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
        disable=quiet or is_silent() or not sys.stderr.isatty(),
    )


def say(line: str, *, quiet: bool = False) -> None:
    """One line on standard error."""
    if not quiet:
        print(line, file=sys.stderr)


def table(title: str, rows: Mapping[str, str]) -> None:
    """A two-column table on standard output, unless output is silenced."""
    if is_silent():
        return
    sheet = Table(title=Text(title), show_header=False)
    for name, value in rows.items():
        sheet.add_row(Text(name), Text(value))  # brackets of names are no markup
    Console().print(sheet)
