"""Paths of files on this machine, with `~` and `file://` resolved; addresses of other machines are refused."""

from __future__ import annotations

import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

from infield.core.errors import InfieldError

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/", re.ASCII)  # pathlib makes one slash of two; a drive has one letter


def local_path(text: str | os.PathLike[str]) -> Path:
    """A path of this machine.

    Arguments:
        text: A path, or the address of a local file, `file:///data/m.zarr`.

    Raises:
        InfieldError: It is the address of something that lies elsewhere, such as `s3://bucket/p.zarr`, or of a home
            folder that is not there.
    """
    written = os.fspath(text)
    scheme = _SCHEME.match(written)
    if scheme is not None and scheme[1].lower() == "file":
        address = urlsplit(written)
        if address.netloc not in ("", "localhost"):
            raise InfieldError(where=written, found=f"the host {address.netloc}", expected="a file on this machine")
        return Path(unquote(address.path))
    if scheme is not None:
        raise InfieldError(
            where=written,
            found=f"an address that begins with {scheme[1]}:",
            expected="a path on this machine",
            remedy="use a local path, and copy the file afterwards or beforehand",
        )
    try:
        return Path(written).expanduser()
    except RuntimeError:
        raise InfieldError(
            where=written, found="no home folder of that name", expected="a path on this machine"
        ) from None
