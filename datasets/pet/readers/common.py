"""What readers of PET files share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from infield.core.errors import InfieldError
from infield.core.extras import require


def needs(package: str) -> Any:
    """A package of the extra `pet`.

    Raises:
        InfieldError: It is not installed.
    """
    return require(package, "pet")


@contextmanager
def readable(path: Path, kind: str) -> Iterator[None]:
    """Turn a library's error on a file that it cannot read into one line.

    Raises:
        InfieldError: The file is missing, empty or not of this kind.
    """
    if not path.exists():
        raise InfieldError(where=path, found="no such file", expected=f"{kind}")
    if path.is_file() and path.stat().st_size == 0:
        raise InfieldError(where=path, found="0 bytes", expected=kind, remedy="copy it again")
    try:
        yield
    except InfieldError:
        raise
    except Exception as error:  # whatever libraries raise of damaged files
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"[:200]
        raise InfieldError(
            where=path,
            found=f"something that cannot be read as {kind} ({reason})",
            expected="a whole file",
            remedy="it is truncated, damaged or of another format",
        ) from error
