"""Records of this bench as Markdown: a table per part, and targets beside results."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from infield.pipelines.bench.kept_records import KeptBench
from infield.pipelines.bench.records import Record

COSTS = ("cpu_seconds", "cpu_seconds_import", "memory", "memory_over_import")

SHOWN = (
    *("rmse", "crps", "rmse_over_kriging", "sd_over_kriging", "coverage_90", "coverage_90_rim", "coverage_90_far"),
    *("noise_sd", "trusted", "cpu_seconds", "memory_over_import"),
)
"""Metrics of the table on a page."""

DERIVED = ("rank_p_value", "slope")
"""Of several cases at once: computed anew from what earlier runs kept."""

FORMATS = {
    "rmse": ".4f",
    "rmse_rim": ".4f",
    "crps": ".4f",
    "rmse_over_kriging": ".4f",
    "sd_over_kriging": ".3f",
    "coverage_90": ".3f",
    "coverage_90_rim": ".3f",
    "coverage_90_far": ".3f",
    "coverage_50": ".3f",
    "coverage_80": ".3f",
    "coverage_95": ".3f",
    "rank_p_value": ".3f",
    "kurtosis": ".1f",
    "noise_sd": ".4g",
    "noise_sd_in_interval": ".2f",
    "trusted": ".2f",
    "moved": ".1e",
    "cpu_seconds": ".1f",
    "memory_over_import": ".0f",
    "slope": ".2f",
}
"""Metrics in the order of the columns, and the format of each."""


@dataclass
class PartsBench(KeptBench):
    """The records of several parts; a case is "part: case" or, for the n-th truth of it, "part: case #n"."""

    derived: ClassVar[tuple[str, ...]] = DERIVED

    def scores(self, case: str, method: str, scores: dict[str, float]) -> None:
        """All scores of a method on a case."""
        for metric, value in scores.items():
            unit = {"cpu_seconds": "s", "cpu_seconds_import": "s", "memory": "MiB", "memory_over_import": "MiB"}
            self.add(case, method, metric, float(value), unit.get(metric, "1"))

    def refuse(self, case: str, method: str, why: str) -> None:
        """No answer, and why."""
        self.add(case, method, "absent", why)

    def values(self, group: str, method: str, metric: str) -> dict[str, float]:
        """Values by case, over the truths of a group."""
        return {
            r.case: r.value
            for r in self.records
            if (group_of(r.case), r.method, r.metric) == (group, method, metric)
            and not isinstance(r.value, str)
            and r.target is None
        }

    def mean(self, group: str, method: str, metric: str) -> float | None:
        """Over the truths of a group: the mean, of costs the median; None where there is none."""
        found = list(self.values(group, method, metric).values())
        return _summary(metric)(found) if found else None

    def error(self, group: str, method: str, metric: str) -> float | None:
        """Standard error of a mean over the truths of a group; None of fewer than two."""
        found = list(self.values(group, method, metric).values())
        return statistics.stdev(found) / len(found) ** 0.5 if len(found) > 1 else None

    def judge(
        self,
        group: str,
        metric: str,
        value: float | None,
        high: float,
        low: float | None = None,
        peers: Any = (),
        error: float | None = None,
    ) -> None:
        """A figure with a target: `met` where it lies within bounds, unknown where a named peer did not run.

        Arguments:
            group: Case.
            metric: What is judged.
            value: What was found; None where ours gave no answer, which is not met.
            high: Largest value.
            low: Least value.
            peers: Methods that must have run on this case.
            error: Standard error of the value; the bounds are widened by two of them.
        """
        target = f"at most {high:g}" if low is None else f"{low:g} to {high:g}"
        ran = {r.method for r in self.records if group_of(r.case) == group and r.metric != "absent"}
        if self.closed and not ran:
            return
        wide = 2 * (error or 0.0)
        met: bool | None = value is not None and (low is None or value >= low - wide) and value <= high + wide
        answered = any(method.startswith("infield") for method in ran)
        if not set(peers) <= ran and (met or (value is None and answered)):
            met = None
        found = value if value is not None else "no peer" if met is None else "refused"
        self.records.append(Record(self.name, group, "infield", metric, found, "1", target, _plain(met), error))

    def ratio(self, group: str, method: str, others: list[str], metric: str) -> float | None:
        """Of a method's mean to the best of others, each over the truths that both have."""
        mine, found = self.values(group, method, metric), []
        for other in others:
            theirs = self.values(group, other, metric)
            both = mine.keys() & theirs.keys()
            if both:
                top, bottom = (_summary(metric)([v[c] for c in both]) for v in (mine, theirs))
                found.append(top / bottom)
        return max(found) if found else None

    @property
    def document(self) -> dict[str, Any]:
        """As every bench, with the metrics that a page shows."""
        return super().document | {"metrics": {name: name.replace("_", " ") for name in SHOWN}}

    def print(self, metrics: Any = None, note: str = "", summary: Any = None) -> None:
        """One Markdown table a part, and one of targets."""
        parts = dict.fromkeys(r.case.partition(":")[0] for r in self.records if r.target is None)
        for part in parts:
            print(f"\n### {self.name}, {part}, seed {self.seed}\n")
            print(self.table(part))
        if any(r.target for r in self.records):
            print(f"\n### {self.name}: figures asked for\n")
            print(self.targets())
        if note:
            print(f"\n{note}")

    def table(self, part: str) -> str:
        """Rows: methods by cases; columns: metrics that the part has."""
        own = [r for r in self.records if r.case.partition(":")[0] == part and r.target is None]
        metrics = [m for m in FORMATS if any(r.metric == m for r in own)] or ["refused"]
        lines = ["| case | method | n | " + " | ".join(m.replace("_", " ") for m in metrics) + " |"]
        lines.append("| --- | --- |" + " ---: |" * (1 + len(metrics)))
        for group, method in dict.fromkeys((group_of(r.case), r.method) for r in own):
            cells = [self.mean(group, method, m) for m in metrics]
            name = group.partition(": ")[2]
            if all(c is None for c in cells):
                why = next(str(r.value) for r in own if (group_of(r.case), r.method) == (group, method))
                lines.append(f"| {name} | {method} | 0 | {why} |" + " |" * (len(metrics) - 1))
                continue
            n = max(len(self.values(group, method, m)) for m in metrics)
            shown = ["-" if c is None else format(c, FORMATS[m]) for c, m in zip(cells, metrics, strict=True)]
            lines.append(f"| {name} | {method} | {n} | " + " | ".join(shown) + " |")
        return "\n".join(lines)

    def targets(self) -> str:
        """Target, result, and whether it is met."""
        words = {True: "yes", False: "no", None: "unknown: a named peer did not run"}
        lines = ["| case | figure | target | found | met |", "| --- | --- | --- | ---: | --- |"]
        for r in self.records:
            if r.target is not None:
                found = r.value if isinstance(r.value, str) else format(r.value, ".4g")
                found += "" if r.error is None else f" ± {r.error:.2g}"
                lines.append(f"| {r.case} | {r.metric.replace('_', ' ')} | {r.target} | {found} | {words[r.met]} |")
        return "\n".join(lines)


def group_of(case: str) -> str:
    """A case without the number of its truth."""
    return case.partition(" #")[0]


def _summary(metric: str) -> Callable[[list[float]], float]:
    return statistics.median if metric in (*COSTS, "noise_sd") else statistics.fmean


def _plain(met: object) -> bool | None:
    """A truth value of numpy as one of Python, which JSON supports."""
    return None if met is None else bool(met)
