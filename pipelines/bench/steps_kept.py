"""A bench of many cases, each of a few figures, that can be stopped and resumed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from infield.pipelines.bench.kept import Kept
from infield.pipelines.bench.targets import TargetBench

Figures = dict[str, float]


@dataclass
class StepsBench(TargetBench):
    """Records whose cases may be kept.

    Arguments:
        cases: At most so many of each part; None for all.
        kept: Finished cases.
    """

    cases: int | None = None
    kept: Kept = field(default_factory=lambda: Kept(None))

    def number(self, usual: int, quick: int, short: bool) -> int:
        """How many cases a part has."""
        return self.cases or (quick if short else usual)

    def figures(self, case: str, measure: Callable[[], Figures]) -> Figures:
        """The figures of a case, measured unless they were kept."""
        found = self.kept.case(
            f"seed {self.seed}, {case}", lambda: {name: np.array(value) for name, value in measure().items()}
        )
        return {name: float(value) for name, value in found.items()}
