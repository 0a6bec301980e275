"""Finished cases of a bench in a folder, a file each, so that a run that was stopped resumes behind them."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from infield.core.errors import InfieldError
from infield.core.provenance import commit
from infield.pipelines.run.console import say

COMMIT = "_commit"


@dataclass
class Kept:
    """Cases of a bench.

    Arguments:
        folder: Where they lie, made where it is missing; None keeps nothing.
    """

    folder: Path | None
    _others: set[str] = field(default_factory=set)

    def case(self, name: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
        """Arrays of a case, by name: of the folder, else made and kept.

        Arguments:
            name: Of its file; it holds all that the case depends on (seed, size, sampler).
            make: Runs the case.

        Raises:
            InfieldError: A file of the folder cannot be read.
        """
        if self.folder is None:
            return make()
        path = self.folder / f"{name.replace(' ', '_')}.npz"
        if path.exists():
            try:
                with np.load(path) as stored:
                    found = dict(stored)
            except (OSError, ValueError, EOFError) as error:
                raise InfieldError(
                    where=str(path), found=str(error), expected="a case that a bench has kept", remedy="remove it"
                ) from error
            self._compare(str(found.pop(COMMIT, "")))
            return found
        made = make()
        self.folder.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part.npz")
        np.savez(part, **{**made, COMMIT: np.array(commit() or "")})  # type: ignore[arg-type]
        os.replace(part, path)
        return made

    def number(self, name: str, make: Callable[[], float]) -> float:
        """As `case`, of one number."""
        return float(self.case(name, lambda: {"value": np.array(make())})["value"])

    def share(self, name: str, count: int, alarms: Callable[[int], bool]) -> float:
        """Fraction of cases `0, ..., count - 1` that alarm, each kept by itself."""
        return sum(self.number(f"{name} {i}", lambda i=i: float(alarms(i))) for i in range(count)) / count  # type: ignore[misc]

    def _compare(self, other: str) -> None:
        """Warn once of cases that another commit has run."""
        if other != (commit() or "") and other not in self._others:
            self._others.add(other)
            say(f"warning: {self.folder} holds cases that were run at commit {other or 'unknown'}")
