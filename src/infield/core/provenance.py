"""Where a result comes from: command line, date, host, versions of packages, commit of the checkout."""

from __future__ import annotations

import platform
import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed_version
from pathlib import Path
from typing import Any

from infield.core.errors import InfieldError
from infield.core.version import __version__

LIBRARIES = ("torch", "deepinv", "numpy", "xarray", "zarr")
DECISIVE = ("infield", "torch")
"""Packages of which another version may draw other numbers."""

_command: ContextVar[str | None] = ContextVar("command", default=None)


@contextmanager
def command_line(program: str, arguments: Sequence[str]) -> Iterator[None]:
    """Results that are written meanwhile are of this command."""
    token = _command.set(shlex.join([*program.split(), *arguments]))
    try:
        yield
    finally:
        _command.reset(token)


@cache
def versions() -> dict[str, str]:
    """Versions of the packages that make a result, and of Python."""
    found = {"infield": __version__, "python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = installed_version(library)
        except PackageNotFoundError:
            continue
    return found


@cache
def commit() -> str | None:
    """Commit of the checkout that Infield runs from, with "-dirty" where it was changed; None where there is none."""
    folder = Path(__file__).resolve().parent
    if not any((parent / ".git").exists() for parent in folder.parents):
        return None
    git = ["git", "-C", str(folder)]
    commands = ([*git, "rev-parse", "HEAD"], [*git, "status", "-s", "-uno"])
    try:
        head, changes = (subprocess.run(words, capture_output=True, text=True, check=True).stdout for words in commands)
    except (OSError, subprocess.CalledProcessError):
        return None
    return head[:12] + ("-dirty" if changes else "")


def this_run() -> dict[str, Any]:
    """What is stored of the run that writes a file, in JSON types."""
    found = {
        "command": _command.get() or "called from Python",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "host": platform.node(),
        "versions": versions(),
    }
    return found if commit() is None else {**found, "commit": commit()}


def check_versions(found: Mapping[str, Any], where: object, remedy: str) -> None:
    """Refuse a result, or a worker, of other versions of those packages that decide what is drawn.

    Builds of one version ("+cpu", "+cu130") draw the same to rounding and count as one.

    Arguments:
        found: Its versions, by package.
        where: It.
        remedy: What to do.

    Raises:
        InfieldError: A version is another one than here.
    """
    own = versions()
    for package in DECISIVE:
        if package in found and package in own and _release(found[package]) != _release(own[package]):
            raise InfieldError(
                where=where,
                found=f"{package} {found[package]}",
                expected=f"{own[package]}, the version of this process",
                remedy=remedy,
            )


def _release(version: str) -> str:
    """A version without the name of its build."""
    return version.partition("+")[0]
