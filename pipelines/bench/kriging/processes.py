"""Methods in processes of their own: their answers, what they cost, or in one line why there is none."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from infield.pipelines.bench.kriging.fields import Problem
from infield.pipelines.bench.kriging.peers import Answer, Peer

OURS = ("infield.pipelines.commands.reconstruct", "infield.pipelines.cli", "xarray", "zarr", "scipy.linalg")


@dataclass(frozen=True)
class Limits:
    """Of a process.

    Arguments:
        folder: Scratch.
        memory_gib: Data it may hold.
        seconds: CPU seconds it may use.
    """

    folder: Path
    memory_gib: float = 12.0
    seconds: float = 3600.0


@dataclass(frozen=True)
class Outcome:
    """An answer with its costs, or the line with the reason why there is none."""

    answer: Any = None
    cost: dict[str, float] = field(default_factory=dict)
    refused: str | None = None


def of_peer(peer: Peer, problem: Problem, limits: Limits) -> Outcome:
    """A peer's answer."""
    if any(find_spec(module.partition(".")[0]) is None for module in peer.modules):
        return Outcome(refused=f"not installed: pip install {peer.package}")
    call = f"{peer.answer.__module__}:{peer.answer.__name__}"
    return _run({"modules": peer.modules, "call": call}, problem, limits)


def of_ours(arguments: list[str], limits: Limits) -> Outcome:
    """A command of ours; its answer lies in the file that it writes."""
    return _run({"modules": OURS, "arguments": arguments}, None, limits)


def _run(job: dict[str, Any], problem: Problem | None, limits: Limits) -> Outcome:
    limits.folder.mkdir(parents=True, exist_ok=True)
    path = limits.folder / "job.json"
    path.write_text(json.dumps(job | {"memory_gib": limits.memory_gib, "seconds": limits.seconds}), encoding="utf-8")
    answer, cost = path.with_suffix(".answer"), path.with_suffix(".cost")
    answer.unlink(missing_ok=True)
    cost.unlink(missing_ok=True)
    if problem is not None:
        path.with_suffix(".pickle").write_bytes(pickle.dumps(problem))
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    done = subprocess.run(
        [sys.executable, "-m", "infield.pipelines.bench.kriging.child", str(path)],
        env={**os.environ, **threads, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode or not cost.exists():
        return Outcome(refused=_why(done, limits))
    result: Answer | None = pickle.loads(answer.read_bytes()) if problem is not None else None
    return Outcome(result, json.loads(cost.read_text(encoding="utf-8")))


def _why(done: subprocess.CompletedProcess[str], limits: Limits) -> str:
    """The last line that a process printed, or the signal that ended it."""
    if done.returncode in (-24, -9):
        return f"stopped at {limits.seconds:.0f} CPU seconds or by the system"
    lines = [line for line in done.stderr.strip().splitlines() if line.strip()]
    return lines[-1][:200] if lines else f"exit status {done.returncode}"
