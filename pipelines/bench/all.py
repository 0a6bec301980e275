"""Every bench, one after the other, to see that each still runs: `infield bench all --quick`.

    infield bench all --quick --only trust steps

A bench that needs a package or a file that is not there is named with its reason.
"""

from __future__ import annotations

import argparse
import os
import sys
from types import ModuleType
from typing import Any

from infield.core import registry
from infield.core.errors import InfieldError
from infield.pipelines.bench.records import Bench
from infield.pipelines.run.console import progress

GROUP = "benches"
METRICS = {"ran": ".0f", "records": ".0f", "missed": ".0f", "seconds": ".1f"}
METHOD_NOTE = "missed: figures that miss their target; those of quick runs are inconclusive."
SUMMARY = sum


def chosen(arguments: argparse.Namespace) -> tuple[ModuleType, dict[str, Any]]:
    return sys.modules[__name__], {"only": arguments.only}


def run(*, quick: bool = False, seed: int = 0, only: list[str] | None = None) -> Bench:
    """All other benches, or some.

    Raises:
        Exception: What a bench raises that is no fault of its input: it does not run any more.
    """
    found, names = Bench("all", seed), only or [name for name in registry.names(GROUP) if name != "all"]
    with progress() as bar:
        for name in bar.track(names, description="benches"):
            start = _cpu()
            try:
                records = registry.load(GROUP, name).run(quick=quick, seed=seed).records
            except InfieldError as error:  # a file or a package that is not there
                found.add(name, name, "absent", str(error))
                continue
            found.add(name, name, "ran", 1.0)
            found.add(name, name, "records", float(len(records)))
            found.add(name, name, "missed", float(sum(r.met is False for r in records)))
            found.add(name, name, "seconds", _cpu() - start, "s")
    return found


def _cpu() -> float:
    """CPU seconds of this process and of those that it has started and that have ended."""
    return sum(os.times()[:4])
