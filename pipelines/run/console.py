"""Console output: progress with time left, short tables."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self, TypeVar

from infield.pipelines.run.options import is_silent

if TYPE_CHECKING:
    from rich.progress import Progress

T = TypeVar("T")


class Unseen:
    """What stands for a progress bar where there is nobody to see one."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def add_task(self, description: str, **_: Any) -> Any:
        return 0

    def advance(self, task: Any, advance: float = 1) -> None:
        pass

    def update(self, task: Any, **_: Any) -> None:
        pass

    def track(self, steps: Iterable[T], **_: Any) -> Iterator[T]:
        return iter(steps)


def progress(*, quiet: bool = False) -> Progress | Unseen:
    """A progress bar with time left on standard error; nothing where that is no terminal."""
    if quiet or is_silent() or not sys.stderr.isatty():
        return Unseen()
    from rich.console import Console  # a twentieth of a second of a processor
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )


def say(line: str, *, quiet: bool = False) -> None:
    """One line on standard error."""
    if not quiet:
        print(line, file=sys.stderr)


def table(title: str, rows: Mapping[str, str]) -> None:
    """A two-column table on standard output, unless output is silenced."""
    if is_silent():
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    sheet = Table(title=Text(title), show_header=False)
    for name, value in rows.items():
        sheet.add_row(Text(name), Text(value))  # brackets of names are no markup
    Console().print(sheet)
