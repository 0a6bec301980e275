"""One process at a time writes an output: with two real processes, and on file systems without locks."""

import errno
import fcntl
import json
import os
import signal
import subprocess
import sys

import pytest
from examples.processes import HANG

from infield import InfieldError
from infield.datasets.formats import output_lock
from infield.datasets.formats.output_lock import acquire, check_free, release, writing

HOLD = """
import sys
from pathlib import Path
from infield.datasets.formats.output_lock import acquire
acquire(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def other():
    """Another process that holds the lock of an output until it is ended."""
    started = []

    def hold(output):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen([sys.executable, "-c", HOLD, str(output)], **pipes))
        assert started[-1].stdout.readline() == "held\n"
        return started[-1]

    yield hold
    for process in started:
        process.kill()
        process.communicate(timeout=HANG)


def test_a_second_process_is_refused_and_a_stale_lock_is_taken_over(tmp_path, other):
    output = tmp_path / "new folder" / "p.zarr"
    holder = other(output)
    for attempt in (acquire, check_free):
        with pytest.raises(InfieldError, match=rf"process {holder.pid} on .* is writing it, since \d+ s"):
            attempt(output)
    acquire(output.with_name("q.zarr"))  # negative control: another output is free
    release(output.with_name("q.zarr"))
    holder.send_signal(signal.SIGKILL)
    holder.wait(timeout=HANG)
    assert (output.parent / "p.zarr.lock").exists()  # what a killed run leaves
    check_free(output)
    with writing(output):
        assert json.loads((output.parent / "p.zarr.lock").read_text())["process"] == os.getpid()
    assert list(output.parent.iterdir()) == []


def test_an_ended_process_gives_its_lock_back(tmp_path, other):
    holder = other(tmp_path / "p.zarr")
    holder.communicate(timeout=HANG)
    assert list(tmp_path.iterdir()) == []


def test_within_a_process_the_lock_is_kept_by_the_outermost(tmp_path):
    with writing(tmp_path / "p.zarr"):
        with writing(tmp_path / "p.zarr"):
            acquire(tmp_path / "p.zarr")
        assert (tmp_path / "p.zarr.lock").exists()
    assert not (tmp_path / "p.zarr.lock").exists()


@pytest.mark.parametrize("owner", ["alive", "dead", "elsewhere", "elsewhere long ago", "nobody"])
def test_a_file_system_without_locks(tmp_path, monkeypatch, owner):
    def no_locks(*_):
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    lock = tmp_path / "p.zarr.lock"
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait(timeout=HANG)
    here = output_lock.platform.node()
    process = {"alive": os.getppid(), "dead": dead.pid}.get(owner, 1)
    host = "another" if owner.startswith("elsewhere") else here
    lock.write_text("" if owner == "nobody" else json.dumps({"process": process, "host": host, "since": 0.0}))
    if owner == "elsewhere long ago":
        os.utime(lock, (0, 0))
    if owner in ("alive", "elsewhere"):
        with pytest.raises(InfieldError, match="is writing it, since"):
            acquire(tmp_path / "p.zarr")
    else:
        acquire(tmp_path / "p.zarr")
        release(tmp_path / "p.zarr")


WINDOWS = """
import errno, os, sys, types
import fcntl as posix
sys.modules["fcntl"], sys.modules["msvcrt"] = None, types.SimpleNamespace(LK_NBLCK=2)
del os.O_CLOEXEC
def locking(descriptor, mode, count):
    assert os.lseek(descriptor, 0, os.SEEK_CUR) >= 2**30, "the owner would be locked away"
    try:
        posix.flock(descriptor, posix.LOCK_EX | posix.LOCK_NB)
    except BlockingIOError:
        raise OSError(errno.EACCES, "permission denied")
sys.modules["msvcrt"].locking = locking
from pathlib import Path
from infield.datasets.formats.output_lock import acquire, release
from infield.core.errors import InfieldError
try:
    acquire(Path(sys.argv[1]))
except InfieldError as error:
    print(error)
else:
    print("held", flush=True)
    sys.stdin.read()
    release(Path(sys.argv[1]))
"""


def test_without_fcntl_the_lock_is_that_of_windows(tmp_path):
    """Two processes that lack `fcntl`, as on Windows, where `msvcrt` locks a byte."""
    command = [sys.executable, "-c", WINDOWS, str(tmp_path / "p.zarr")]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(command, **pipes) as first:
        assert first.stdout.readline() == "held\n"
        second = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=HANG)
        assert f"process {first.pid} on" in second.stdout and "is writing it" in second.stdout
        first.communicate(timeout=HANG)
    assert list(tmp_path.iterdir()) == []
    third = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=HANG)
    assert third.stdout == "held\n"  # negative control: the lock is free again
