"""Folders that commands write: they appear under their name only when they are whole."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from infield.core.errors import InfieldError

MARK = ".infield-projection"
"""File in such a folder, without which none is replaced."""


@contextmanager
def output_folder(path: Path, overwrite: bool) -> Iterator[Path]:
    """A draft of a folder, renamed in the end.

    Raises:
        InfieldError: The folder exists, or cannot be made.
    """
    if path.exists() and not overwrite:
        raise InfieldError(
            where=path,
            found="an existing output",
            expected="a new path",
            remedy="choose another, or replace it ({overwrite})",
            parameters={"overwrite": True},
        )
    if path.exists() and not (path / MARK).is_file():
        raise InfieldError(
            where=path, found="something that this command did not write, which is never overwritten",
            remedy="choose another",
        )  # fmt: skip
    draft = path.with_name(path.name + ".draft")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(parents=True)
    except OSError as error:
        raise InfieldError(where=path, found=str(error), expected="a folder that can be made") from None
    try:
        yield draft
        (draft / MARK).write_text("", encoding="utf-8")
        if path.exists():
            shutil.rmtree(path)
        draft.rename(path)
    except BaseException:
        shutil.rmtree(draft, ignore_errors=True)
        raise
