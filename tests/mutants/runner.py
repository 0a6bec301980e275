"""A process that has imported the libraries and runs pytest in forks of itself: nothing of the house is imported twice.

Jobs come as lines of JSON on standard input, answers go as lines to standard output. `Runner` is the other end.
"""

from __future__ import annotations

import gc
import importlib
import importlib.metadata
import importlib.util
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

LIBRARIES = """torch numpy.testing scipy.stats scipy.optimize scipy.ndimage pandas xarray zarr yaml lightning deepinv
pint cf_xarray einops h5py nibabel matplotlib.pyplot netCDF4 numba rich.progress distributed astropy.io.fits"""

IDLE = 120
"""Seconds without any processor time after which a job is ended: something waits for what never comes."""


class Runner:
    """A runner in a process of its own.

    Arguments:
        python: Interpreter of the tests.
        root: A tree whose remedy of torchvision is used.
        libraries: What is imported once; those that are not there are left out.
    """

    def __init__(self, python: str, root: Path, libraries: str = LIBRARIES) -> None:
        self.process = subprocess.Popen(
            [python, __file__, str(root), *libraries.split()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            text=True,
        )

    def run(self, tree: Path, tests: list[str], **options: Any) -> dict[str, Any]:
        """Run tests until one fails.

        Arguments:
            tree: Folder of the copy.
            tests: Files.
            options: `only`, `without`: names of the tests that run, or do not; `costs`: file of what they take, cheap
                ones run first; `limit`: processor seconds; `records`: folder for what is reached (then all tests run,
                failing or not), with `site` the folder of `sitecustomize`.

        Returns:
            `status` of pytest (negative where a signal ended it), processor time in `seconds` and by test in `costs`,
            the first `failed` test.
        """
        assert self.process.stdin and self.process.stdout
        print(json.dumps({"tree": str(tree), "tests": tests, **options}), file=self.process.stdin, flush=True)
        return json.loads(self.process.stdout.readline())

    def close(self) -> None:
        assert self.process.stdin
        self.process.stdin.close()
        self.process.wait()


class _First:
    """Plugin of pytest: leaves out tests, runs the cheap ones of a file first, and says which one fails first."""

    def __init__(self, job: dict[str, Any], pipe: int) -> None:
        self.only, self.without, self.pipe = set(job.get("only", ())), set(job.get("without", ())), pipe
        path = Path(job.get("costs", ""))
        self.costs = json.loads(path.read_text()) if path.is_file() else {}
        self.started = 0.0

    def pytest_collection_modifyitems(self, config, items) -> None:  # type: ignore[no-untyped-def]
        chosen = [i for i in items if i.nodeid not in self.without and (not self.only or i.nodeid in self.only)]
        config.hook.pytest_deselected(items=[item for item in items if item not in set(chosen)])
        files = list(dict.fromkeys(item.path for item in chosen))
        chosen.sort(key=lambda item: (files.index(item.path), self.costs.get(item.nodeid, 0)))
        items[:] = chosen

    def pytest_runtest_logstart(self) -> None:
        self.started = sum(os.times()[:4])

    def pytest_runtest_logreport(self, report) -> None:  # type: ignore[no-untyped-def]
        if report.failed:
            os.write(self.pipe, f"{report.nodeid}\tfailed\n".encode())

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        os.write(self.pipe, f"{nodeid}\t{sum(os.times()[:4]) - self.started:.2f}\n".encode())


def _child(job: dict[str, Any], pipe: int) -> int:
    os.setsid()
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    if job.get("limit"):
        resource.setrlimit(resource.RLIMIT_CPU, (int(job["limit"]) + 1, int(job["limit"]) + 6))
    tree = Path(job["tree"])
    os.chdir(tree)
    paths = [str(tree / "src")]
    arguments = ["-q", "-m", "not slow and not notebook"]
    arguments += [part for name in ("cacheprovider", "xdist", "unraisableexception") for part in ("-p", f"no:{name}")]
    plugins: list[Any] = [_First(job, pipe)]
    if "records" in job:
        os.environ["MUTANTS_REACHED"] = job["records"]
        paths = [job["site"], *paths]
        plugins.append(importlib.import_module("probe").Plugin())
    else:
        arguments.append("-x")
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)
    sys.path[:0] = paths
    import pytest

    return int(pytest.main([*arguments, *job["tests"]], plugins=plugins))


def _processor_seconds(session: int) -> float:
    """Of all living processes of a session."""
    ticks = 0
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == session:
            ticks += sum(map(int, fields[11:15]))
    return ticks / os.sysconf("SC_CLK_TCK")


def _watch(pid: int, ended: threading.Event) -> None:
    """End a job that waits for what never comes, or whose answer nobody waits for any more."""
    last, since, parent = -1.0, time.monotonic(), os.getppid()
    while not ended.wait(5):
        if os.getppid() != parent:
            os.killpg(pid, signal.SIGKILL)
            return
        now = _processor_seconds(pid)
        if abs(now - last) > 0.05:
            last, since = now, time.monotonic()
        elif time.monotonic() - since > IDLE:
            os.killpg(pid, signal.SIGKILL)
            return


def _serve(root: Path, libraries: list[str]) -> None:
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    sys.path.insert(0, str(Path(__file__).parent))
    remedy = root / "src/infield/core/torchvision_remedy.py"
    if remedy.exists():
        specification = importlib.util.spec_from_file_location("_remedy", remedy)
        assert specification and specification.loader
        module = importlib.util.module_from_spec(specification)
        specification.loader.exec_module(module)
        module.import_torchvision_first()
    for name in ["pytest", "hypothesis.extra.numpy", *libraries]:
        try:
            importlib.import_module(name)
        except ImportError:
            continue
    for plugin in importlib.metadata.entry_points(group="pytest11"):
        plugin.load()
    gc.collect()
    gc.freeze()  # a fork that collects garbage does not walk through the libraries
    for line in sys.stdin:
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.close(read)
                os._exit(_child(json.loads(line), write))
            except BaseException:
                os._exit(99)
        os.close(write)
        written: list[bytes] = []
        done = threading.Thread(target=_drain, args=(read, written), daemon=True)
        done.start()
        ended = threading.Event()
        watch = threading.Thread(target=_watch, args=(pid, ended))
        watch.start()
        _, status, usage = os.wait4(pid, 0)
        ended.set()
        watch.join()
        try:
            os.killpg(pid, signal.SIGKILL)  # what it left behind
        except ProcessLookupError:
            pass
        done.join(10)
        tests = [line.split("\t") for line in b"".join(written).decode().splitlines()]
        failed = next((name for name, found in tests if found == "failed"), "")
        costs = {name: float(found) for name, found in tests if found != "failed"}
        seconds = usage.ru_utime + usage.ru_stime
        answer = {"status": os.waitstatus_to_exitcode(status), "seconds": seconds, "failed": failed, "costs": costs}
        print(json.dumps(answer), file=answers, flush=True)


def _drain(descriptor: int, written: list[bytes]) -> None:
    while piece := os.read(descriptor, 1 << 16):
        written.append(piece)
    os.close(descriptor)


if __name__ == "__main__":
    _serve(Path(sys.argv[1]), sys.argv[2:])
