"""Which test reaches which place of the code: the half that runs inside the probed processes.

`_reached_` stands before every place (`reach.probed`). In the process of pytest the plugin below writes what each test
reached, its processor time and outcome. Processes that a test starts append what they reach under the name of that
test, which they inherit in the environment.

Standard library alone: `sitecustomize` of the probed tree loads it into every process.
"""

from __future__ import annotations

import builtins
import os
from pathlib import Path

RECORDS = "MUTANTS_REACHED"
"""Environment variable: the folder of the records. One line a test and phase, with tabs between: test, phase, outcome,
processor seconds, numbers of places."""

_seen: set[int] = set()
_in_pytest = False


def reached(number: int) -> None:
    """Record a place. Returns None, so that `reached(...) or (value)` is the value."""
    if number not in _seen:
        _seen.add(number)
        if not _in_pytest:
            test, _, _ = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition(" (")
            _write(f"{test}\tprocess\tpassed\t0\t{number}\n")


def _write(line: str) -> None:
    path = Path(os.environ[RECORDS], f"{os.getpid()}.txt")
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(descriptor, line.encode())
    os.close(descriptor)


def _leave_pytest() -> None:
    global _in_pytest
    _in_pytest = False
    _seen.clear()


builtins._reached_ = reached  # type: ignore[attr-defined]


class Plugin:
    """Of pytest: records what each phase of each test reaches."""

    def __init__(self) -> None:
        global _in_pytest
        _in_pytest = True
        os.register_at_fork(after_in_child=_leave_pytest)
        self.started = sum(os.times()[:4])

    def pytest_runtest_logreport(self, report) -> None:  # type: ignore[no-untyped-def]
        now = sum(os.times()[:4])
        numbers = ",".join(map(str, _seen))
        _write(f"{report.nodeid}\t{report.when}\t{report.outcome}\t{now - self.started:.3f}\t{numbers}\n")
        _seen.clear()
        self.started = now

    def pytest_collection_finish(self) -> None:
        _write(f"\timport\tpassed\t0\t{','.join(map(str, _seen))}\n")
        _seen.clear()
        self.started = sum(os.times()[:4])
