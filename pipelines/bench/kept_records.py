"""A bench of many cases that can be stopped and resumed: finished cases stand in a file."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from infield.core.errors import InfieldError
from infield.pipelines.bench.records import Bench, Record


@dataclass
class KeptBench(Bench):
    """Records whose finished cases an earlier run may have kept.

    Arguments:
        kept: File of finished cases.
        closed: Whether cases that no earlier run finished are left out.
    """

    kept: Path | None = None
    closed: bool = False
    _finished: set[str] = field(default_factory=set)

    derived: ClassVar[tuple[str, ...]] = ()
    """Metrics of several cases at once: computed anew from what earlier runs kept."""

    def load(self, paths: list[Path]) -> None:
        """Finished cases of earlier runs, none of which is run again; those of this run are added to the first file.

        Raises:
            InfieldError: A file is one of another bench or seed, or of none.
        """
        self.kept = paths[0]
        for path in paths:
            if path == self.kept and not path.exists():
                continue
            try:
                earlier = json.loads(path.read_text(encoding="utf-8"))
                name, seed, records = earlier["bench"], earlier["seed"], earlier["records"]
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise InfieldError(where=str(path), found=str(error), expected="records of a bench") from error
            if (name, seed) != (self.name, self.seed):
                raise InfieldError(
                    where=str(path), found=f"{name}, seed {seed}", expected=f"{self.name}, seed {self.seed}"
                )
            new = [
                Record(**entries)
                for entries in records
                if entries.get("target") is None and entries["metric"] not in self.derived
            ]
            self.records += [record for record in new if record.case not in self._finished]
            self._finished |= {record.case for record in new}

    def pending(self, case: str) -> bool:
        """Whether a case is to be run: an earlier run did not finish it, and this one runs any."""
        return not self.closed and case not in self._finished

    def finish(self, case: str) -> None:
        """All methods of a case have answered: it is kept, so that a run that was stopped goes on behind it."""
        self._finished.add(case)
        if self.kept is not None:
            finished = [record for record in self.records if record.case in self._finished and record.target is None]
            part = self.kept.with_name(self.kept.name + ".part")
            type(self)(self.name, self.seed, finished).write(part)
            os.replace(part, self.kept)
