"""One method on one problem in a process of its own, which counts what it costs.

    python -m infield.pipelines.bench.kriging.child JOB.json

The process writes its answer and its costs beside the job.
"""

from __future__ import annotations

import importlib
import json
import pickle
import resource
import sys
import time
from pathlib import Path

from infield.pipelines.bench.peak_memory import peak_mib


def main(path: Path) -> int:
    """Run the job that a file describes."""
    job = json.loads(path.read_text(encoding="utf-8"))
    limit = int(job["memory_gib"] * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    resource.setrlimit(resource.RLIMIT_CPU, (int(job["seconds"]), int(job["seconds"]) + 30))
    for module in job["modules"]:
        importlib.import_module(module)
    imported, import_seconds = peak_mib(), cpu_seconds()
    status, started = 0, time.perf_counter()
    if "arguments" in job:
        from infield.pipelines.cli import main as infield

        status = infield(job["arguments"])
    else:
        module, _, name = job["call"].partition(":")
        function = getattr(importlib.import_module(module), name)
        problem = pickle.loads(path.with_suffix(".pickle").read_bytes())
        path.with_suffix(".answer").write_bytes(pickle.dumps(function(problem)))
    cost = {
        "cpu_seconds": cpu_seconds(),
        "cpu_seconds_import": import_seconds,
        "seconds": time.perf_counter() - started,
        "memory": peak_mib(),
        "memory_over_import": peak_mib() - imported,
    }
    path.with_suffix(".cost").write_text(json.dumps(cost), encoding="utf-8")
    return status


def cpu_seconds() -> float:
    """Of this process and of those that it started and that ended."""
    spent = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(usage.ru_utime + usage.ru_stime for usage in spent)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
