"""Processes of their own: console scripts, runs that stop and wait between two blocks, and waiting for what they do."""

from __future__ import annotations

import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

HANG = 20 * 60
"""Seconds after which a process counts as hung. No test is timed: this is no measure of how fast anything should be."""

ENTRIES = {"infield": "main", "reconstruct": "reconstruct"}

HELD = """
import sys, threading
from infield.datasets.formats.block_writer import BlockWriter
from infield.pipelines.cli import {entry}

write_block, written = BlockWriter._write_block, []

def write_some(self, *arguments):
    if len(written) == {blocks}:
        print("held", flush=True)
        threading.Event().wait()
    write_block(self, *arguments)
    written.append(arguments[0])

BlockWriter._write_block = write_some
sys.exit({entry}())
"""


def script(name: str) -> list[str]:
    """A console script that lies beside the interpreter, or the same by the entry point where it was not installed."""
    path = Path(sys.executable).with_name(name)
    if path.exists():
        return [str(path)]
    entry = ENTRIES[name]
    return [sys.executable, "-c", f"import sys; from infield.pipelines.cli import {entry}; sys.exit({entry}())"]


def held(name: str, blocks: int) -> list[str]:
    """A console script whose process writes this many blocks, says so and waits, until a signal ends it."""
    return [sys.executable, "-c", HELD.format(entry=ENTRIES[name], blocks=blocks)]


def wait_until_held(process: subprocess.Popen[str]) -> None:
    """Wait for a process of `held` to have written its blocks."""
    assert process.stdout is not None
    assert select.select([process.stdout], [], [], HANG)[0], "the process hangs"
    said = process.stdout.readline()
    assert said == "held\n", (said, *process.communicate(timeout=HANG))


def wait_until(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    """Wait for what a process brings about; an error if it ends without."""
    deadline = time.monotonic() + HANG
    while not condition():
        assert process.poll() is None, "the process ended before"
        assert time.monotonic() < deadline, "the process hangs"
        time.sleep(0.02)
