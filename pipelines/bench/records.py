"""The flat records of a bench, their JSON file and their table."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from infield.core.json_text import to_json

PACKAGES = (
    *("infield", "torch", "deepinv", "azula", "numpy", "scipy", "sigpy"),
    *("gpboost", "PyKrige", "gstools", "gpytorch", "scikit-learn"),
)


@dataclass(frozen=True)
class Record:
    """One figure: which bench and case, by which method, of what metric; of one with a target, also the target.

    Arguments:
        bench, case, method, metric: What it is.
        value: The figure, or why there is none.
        unit: Of the value.
        target: The target as text.
        met: Whether the value meets it; None if that is undetermined.
        error: Standard error of the value by which the target was widened, twice; None where it was not.
    """

    bench: str
    case: str
    method: str
    metric: str
    value: float | str
    unit: str = "1"
    target: str | None = None
    met: bool | None = None
    error: float | None = None

    def to_json(self) -> dict[str, str | float | bool | None]:
        """Its entries; those of a target and an error only where there are."""
        absent = {"target", "met"} if self.target is None else set()
        absent |= {"error"} if self.error is None else set()
        return {name: value for name, value in asdict(self).items() if name not in absent}


@dataclass
class Bench:
    """Collects the records of one run.

    Arguments:
        name: Name of the bench.
        seed: Seed from which all its cases derive.
    """

    name: str
    seed: int
    records: list[Record] = field(default_factory=list)

    def add(self, case: str, method: str, metric: str, value: float | str, unit: str = "1") -> None:
        self.records.append(Record(self.name, case, method, metric, value, unit))

    def median(self, method: str, metric: str) -> float:
        """Median over the cases; NaN where there is none."""
        return self.over_cases(statistics.median, method, metric)

    def over_cases(self, summary: Callable[[list[float]], float], method: str, metric: str) -> float:
        """A summary over the cases; NaN where there is none."""
        values = [
            r.value for r in self.records if (r.method, r.metric) == (method, metric) and not isinstance(r.value, str)
        ]
        return summary(values) if values else float("nan")

    def write(self, path: Path) -> None:
        """Write the records, and beside them command, date, seed, versions and threads, as JSON.

        A page of the documentation shows such a file from `docs/benchmarks/`.
        """
        run = {"title": self.name, "command": f"infield bench {self.name}", "date": date.today().isoformat()}
        path.write_text(to_json(run | self.document, indent=1) + "\n", encoding="utf-8")

    @property
    def document(self) -> dict[str, Any]:
        """The records with seed and versions, in JSON types."""
        return {
            "bench": self.name,
            "seed": self.seed,
            "threads": torch.get_num_threads(),
            "versions": {package: version_of(package) for package in PACKAGES},
            "records": [record.to_json() for record in self.records],
        }

    def print(
        self, metrics: dict[str, str], note: str = "", summary: Callable[[list[float]], float] = statistics.median
    ) -> None:
        """Print one row a method: a summary over the cases of each metric, in the order given.

        Arguments:
            metrics: Metric -> format of its number.
            note: A line under the table.
            summary: Of the values of all cases: `statistics.median`, `max`, ...
        """
        cases = len({r.case for r in self.records if r.metric in metrics})
        table = Table(title=f"{self.name}: {summary.__name__} over {cases} cases, seed {self.seed}")
        table.add_column("method", no_wrap=True)
        for metric in metrics:
            table.add_column(metric.replace("_", " "), justify="right")
        for method in dict.fromkeys(r.method for r in self.records):
            absent = next((r for r in self.records if r.method == method and r.metric == "absent"), None)
            if absent is not None:
                table.add_row(method, str(absent.value))
                continue
            values = [self.over_cases(summary, method, metric) for metric in metrics]
            if all(v != v for v in values):  # a row of another table
                continue
            cells = ["-" if v != v else format(v, f) for v, f in zip(values, metrics.values(), strict=True)]
            table.add_row(method, *cells)
        console = wide_console()
        console.print(table)
        if note:
            console.print(note, highlight=False)


def wide_console() -> Console:
    """Standard output for tables: as wide as they are where it is no terminal, so that a log holds whole numbers."""
    terminal = Console()
    return Console(width=max(terminal.width, 110) if terminal.is_terminal else 10_000)


def version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
