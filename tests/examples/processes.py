"""Processes of their own: console scripts, runs that stop and wait between two blocks, and waiting for what they do."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

HANG = 20 * 60
"""Seconds after which a process counts as hung. No test is timed: this is no measure of how fast anything should be."""

ENTRIES = {"infield": "main", "reconstruct": "reconstruct"}

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["infield.pipelines.cli", "infield.pipelines.commands.reconstruct"])


def script(name: str) -> list[str]:
    """A console script that lies beside the interpreter, or the same by the entry point where it was not installed."""
    path = Path(sys.executable).with_name(name)
    if path.exists():
        return [str(path)]
    entry = ENTRIES[name]
    return [sys.executable, "-c", f"import sys; from infield.pipelines.cli import {entry}; sys.exit({entry}())"]


class Forked:
    """A command in a process of its own, forked from one that has imported the commands: a fork needs no seconds.

    Arguments:
        name: Console script.
        arguments: Its arguments.
        held_after: The process stops and waits after so many blocks, until a signal ends it.
        paths: Folders of packages that are found before others.
    """

    def __init__(
        self, name: str, *arguments: object, held_after: int | None = None, paths: Sequence[Path] = ()
    ) -> None:
        self._folder = TemporaryDirectory()
        self._out, self._err = (Path(self._folder.name) / kind for kind in ("out", "err"))
        words = [str(argument) for argument in arguments]
        settings = (ENTRIES[name], [name, *words], held_after, [str(path) for path in paths], self._out, self._err)
        self._process = CONTEXT.Process(target=_run, args=settings)
        self._process.start()

    @property
    def returncode(self) -> int | None:
        """Exit status, minus the number of the signal that ended it, or None while it runs."""
        return self._process.exitcode

    poll = returncode.fget

    def send_signal(self, number: int) -> None:
        """As of `subprocess.Popen`."""
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def kill(self) -> None:
        """As of `subprocess.Popen`."""
        self._process.kill()

    def communicate(self, timeout: float | None = HANG) -> tuple[str, str]:
        """Wait for the end; standard output and standard error."""
        self._process.join(timeout)
        assert self.returncode is not None, "the process hangs"
        return self._out.read_text(encoding="utf-8"), self._err.read_text(encoding="utf-8")

    def wait_until_held(self) -> None:
        """Wait until the blocks are written."""
        wait_until(lambda: self._out.exists() and self._out.read_text().endswith("held\n"), self)


def _run(entry: str, words: list[str], held_after: int | None, paths: list[str], out: Path, err: Path) -> None:
    """What a forked process does."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # shells start what runs in the background without
    for number, path in ((1, out), (2, err)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    sys.stdout, sys.stderr = (open(number, "w", encoding="utf-8", buffering=1, closefd=False) for number in (1, 2))
    sys.path[:0] = paths
    sys.argv = words
    from infield.pipelines import cli

    if held_after is not None:
        _hold_after(held_after)
    sys.exit(getattr(cli, entry)())


def _hold_after(blocks: int) -> None:
    from infield.datasets.formats.block_writer import BlockWriter

    write_block, written = BlockWriter._write_block, []

    def write_some(self: BlockWriter, b: int, *arguments: Any) -> None:
        if len(written) == blocks:
            print("held", flush=True)
            threading.Event().wait()
        write_block(self, b, *arguments)
        written.append(b)

    BlockWriter._write_block = write_some  # type: ignore[method-assign]


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str] | Forked) -> None:
    """Wait for what a process brings about; an error if it ends without."""
    deadline = time.monotonic() + HANG
    while not condition():
        assert process.poll() is None, "the process ended before"
        assert time.monotonic() < deadline, "the process hangs"
        time.sleep(0.02)
