"""One process at a time writes an output: a lock beside it, which states its owner and since when.

The operating system holds the lock (`flock`; on Windows `msvcrt.locking`) and gives it back when the process ends,
however it ends: a lock of a killed run is taken over. On file systems without such locks, a lock is stale if its
process is gone, or if it is of another host and has not been renewed for a day.
"""

from __future__ import annotations

import atexit
import errno
import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from infield.core.errors import InfieldError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

STALE_SECONDS = 86_400.0
"""Age of a lock of another host that is not held by its operating system any more, as far as can be seen."""

_NO_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)

_OPEN = os.O_RDWR | getattr(os, "O_CLOEXEC", 0)

_LOCKED_BYTE = 2**30
"""Which byte is locked on Windows: locks are mandatory there, and the owner must stay readable."""

_held: dict[Path, int] = {}
"""Locks of this process: file -> descriptor."""


def acquire(output: Path) -> bool:
    """Lock an output for this process; where it has the lock already, nothing happens.

    Arguments:
        output: The file or folder to write. Its parent folder is made.

    Returns:
        Whether this process had no lock before.

    Raises:
        InfieldError: Another process is writing it.
    """
    lock = _lock_of(output)
    if lock in _held:
        return False
    lock.parent.mkdir(parents=True, exist_ok=True)
    while True:
        descriptor = os.open(lock, _OPEN | os.O_CREAT, 0o666)
        if not _take(descriptor, lock):
            owner = _owner(lock)
            os.close(descriptor)
            raise _in_use(output, owner)
        if _is_at(descriptor, lock):  # else its owner removed it just now
            break
        os.close(descriptor)
    os.ftruncate(descriptor, 0)
    os.write(descriptor, json.dumps({"process": os.getpid(), "host": platform.node(), "since": time.time()}).encode())
    _held[lock] = descriptor
    return True


def release(output: Path) -> None:
    """Give a lock back; nothing happens where this process has none."""
    lock = _lock_of(output)
    descriptor = _held.pop(lock, None)
    if descriptor is not None:
        with suppress(OSError):
            lock.unlink()  # before others can lock it
        os.close(descriptor)
        if fcntl is None:  # an open file cannot be removed there
            with suppress(OSError):
                lock.unlink()


def renew(output: Path) -> None:
    """State that the run goes on, for those who cannot see the lock of the operating system."""
    lock = _lock_of(output)
    if lock in _held:
        with suppress(OSError):
            os.utime(lock)


@atexit.register
def release_all() -> None:
    """Give all locks of this process back."""
    for lock in list(_held):
        release(lock.with_name(lock.name.removesuffix(".lock")))


def check_free(output: Path) -> None:
    """Refuse an output that another process is writing, before the work begins.

    Raises:
        InfieldError: It is being written.
    """
    lock = _lock_of(output)
    if lock in _held or not lock.exists():
        return
    with suppress(FileNotFoundError, PermissionError):
        descriptor = os.open(lock, _OPEN)
        try:
            if not _take(descriptor, lock):
                raise _in_use(output, _owner(lock))
        finally:
            os.close(descriptor)


@contextmanager
def writing(output: Path) -> Iterator[None]:
    """Hold the lock of an output for a while.

    Raises:
        InfieldError: Another process is writing it.
    """
    new = acquire(output)
    try:
        yield
    finally:
        if new:
            release(output)


def _lock_of(output: Path) -> Path:
    path = Path(os.path.abspath(output))  # the name as it is: a link is replaced, not followed
    return path.with_name(f"{path.name}.lock")


def _take(descriptor: int, lock: Path) -> bool:
    """Whether the lock is this process's now."""
    try:
        _lock(descriptor)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return _is_stale(lock)
    return True


def _lock(descriptor: int) -> None:
    """Lock an open file without waiting.

    Raises:
        BlockingIOError: Another process holds it.
        OSError: The file system has no locks.
    """
    if fcntl is not None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    import msvcrt

    os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
    try:
        msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    except OSError as error:
        if error.errno in (errno.EACCES, errno.EDEADLK):
            raise BlockingIOError(error.errno, "locked") from error
        raise
    finally:
        os.lseek(descriptor, 0, os.SEEK_SET)


def _is_at(descriptor: int, lock: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), lock.stat())
    except FileNotFoundError:
        return False


def _is_stale(lock: Path) -> bool:
    """Whether the owner is gone, as far as can be seen without the operating system's lock."""
    owner = _owner(lock)
    if "process" not in owner:
        return True
    if owner.get("host") != platform.node() or fcntl is None:  # os.kill(process, 0) ends a process on Windows
        return time.time() - lock.stat().st_mtime > STALE_SECONDS
    try:
        os.kill(int(owner["process"]), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return int(owner["process"]) == os.getpid()


def _owner(lock: Path) -> dict[str, Any]:
    try:
        found = json.loads(lock.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _in_use(output: Path, owner: dict[str, Any]) -> InfieldError:
    who = f"process {owner['process']} on {owner.get('host')}" if "process" in owner else "another process"
    since = owner.get("since")
    age = "" if not isinstance(since, float) else f", since {_age(time.time() - since)}"
    return InfieldError(
        where=output,
        found=f"that {who} is writing it{age}",
        expected="one run at a time",
        remedy="wait for its end, or choose another output",
    )


def _age(seconds: float) -> str:
    if seconds < 120:
        return f"{max(seconds, 0):.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"
