"""Every bench, one after the other, to see that each still runs: `infield bench all --quick`.

A bench that needs a package or a file that is not there is named with its reason.
"""

from __future__ import annotations

import time

from infield.core import registry
from infield.core.errors import InfieldError
from infield.pipelines.bench.records import Bench
from infield.pipelines.run.console import progress

GROUP = "benches"
METRICS = {"ran": ".0f", "records": ".0f", "missed": ".0f", "seconds": ".1f"}
METHOD_NOTE = "missed: figures that miss their target; those of quick runs are inconclusive."
SUMMARY = sum


def run(*, quick: bool = False, seed: int = 0) -> Bench:
    """All other benches.

    Raises:
        Exception: What a bench raises that is no fault of its input: it does not run any more.
    """
    found, names = Bench("all", seed), [name for name in registry.names(GROUP) if name != "all"]
    with progress() as bar:
        for name in bar.track(names, description="benches"):
            start = time.perf_counter()
            try:
                records = registry.load(GROUP, name).run(quick=quick, seed=seed).records
            except InfieldError as error:  # a file or a package that is not there
                found.add(name, name, "absent", str(error))
                continue
            found.add(name, name, "ran", 1.0)
            found.add(name, name, "records", float(len(records)))
            found.add(name, name, "missed", float(sum(r.met is False for r in records)))
            found.add(name, name, "seconds", time.perf_counter() - start, "s")
    return found
