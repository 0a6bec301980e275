"""Records of a bench as one table: a figure a line, beside the target where there is one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.table import Table

from infield.pipelines.bench.records import Bench, Record, wide_console


@dataclass
class TargetBench(Bench):
    """A bench whose figures have targets of their own."""

    def judge(
        self,
        case: str,
        method: str,
        metric: str,
        value: float,
        low: float | None = None,
        high: float | None = None,
        *,
        error: float = 0.0,
    ) -> None:
        """Add a figure; with bounds, it is met where it lies within them, widened by twice its sampling error.

        Arguments:
            case, method, metric, value: As of a `Record`.
            low: Least value; None for none.
            high: Largest one.
            error: Standard error of the value.
        """
        if low is None and high is None:
            self.records.append(Record(self.name, case, method, metric, float(value)))
            return
        target = f"at most {high:g}" if low is None else f"at least {low:g}" if high is None else f"{low:g} to {high:g}"
        met = (low is None or value >= low - 2 * error) and (high is None or value <= high + 2 * error)
        self.records.append(
            Record(self.name, case, method, metric, float(value), "1", target, bool(met), error or None)
        )

    def print(self, metrics: Any = None, note: str = "", summary: Any = None) -> None:
        """One line a figure."""
        table = Table(title=f"{self.name}, seed {self.seed}")
        for name in ("case", "method", "figure", "value", "target", "met"):
            table.add_column(name, justify="right" if name == "value" else "left", overflow="fold")
        words = {True: "yes", False: "no", None: ""}
        case = None
        for r in self.records:
            value = r.value if isinstance(r.value, str) else format(r.value, ".4g")
            value += "" if r.error is None else f" ± {r.error:.2g}"
            unit = "" if r.unit == "1" else f" {r.unit}"
            shown = "" if r.case == case else r.case
            table.add_row(shown, r.method, r.metric.replace("_", " "), value + unit, r.target or "", words[r.met])
            case = r.case
        console = wide_console()
        console.print(table)
        if note:
            console.print(note, highlight=False)
