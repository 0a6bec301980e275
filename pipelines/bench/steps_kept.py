"""Figures of finished cases, so that a bench that was stopped goes on behind them."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from infield.core.errors import InfieldError
from infield.pipelines.bench.targets import TargetBench

Figures = dict[str, float]


@dataclass
class StepsBench(TargetBench):
    """A bench of many cases.

    Arguments:
        cases: At most so many of each part; None for all.
        kept: File with a line a finished case; None to keep nothing.
    """

    cases: int | None = None
    kept: Path | None = None
    _finished: dict[str, Figures] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.kept is None or not self.kept.exists():
            return
        for number, line in enumerate(self.kept.read_text(encoding="utf-8").splitlines(), 1):
            try:
                entry = json.loads(line)
                seed, case, figures = entry["seed"], entry["case"], entry["figures"]
            except (ValueError, KeyError, TypeError) as error:
                raise InfieldError(
                    where=f"{self.kept}, line {number}", found=str(error), expected="a finished case of this bench"
                ) from error
            if seed == self.seed:
                self._finished[case] = figures

    def number(self, usual: int, quick: int, short: bool) -> int:
        """How many cases a part has."""
        return self.cases or (quick if short else usual)

    def figures(self, case: str, measure: Callable[[], Figures]) -> Figures:
        """The figures of a case, measured unless they were kept."""
        if case not in self._finished:
            self._finished[case] = found = measure()
            if self.kept is not None:
                with self.kept.open("a", encoding="utf-8") as file:
                    file.write(json.dumps({"seed": self.seed, "case": case, "figures": found}) + "\n")
        return self._finished[case]
