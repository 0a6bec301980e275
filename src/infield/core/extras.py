"""Packages of optional extras: imported on first use, and named in one line if they are not installed."""

from __future__ import annotations

import importlib
from typing import Any

from infield.core.errors import InfieldError


class MissingExtra(InfieldError):
    """A package of an extra is not installed. In a notebook it shows as its line alone, without the traceback."""

    def _render_traceback_(self) -> list[str]:
        """The protocol of IPython for errors that format themselves."""
        return [f"{type(self).__name__}: {self}"]


def missing_extra(package: str, extra: str, *, where: object = "", instead: str = "") -> MissingExtra:
    """The error that names a package and how to install it.

    Arguments:
        package: Its name, as it is imported.
        extra: The extra of Infield that installs it.
        where: The file or the argument that needs it.
        instead: What else helps, e.g. "or write netCDF (.nc)".
    """
    return MissingExtra(
        where=where,
        found=f"no package {package}",
        expected=f"the extra '{extra}'",
        remedy=", ".join(filter(None, (f"pip install 'infield[{extra}]'", instead))),
    )


def require(package: str, extra: str, *, where: object = "", instead: str = "") -> Any:
    """Import a package of an extra.

    Arguments:
        package, extra, where, instead: As in `missing_extra`.

    Returns:
        The module.

    Raises:
        MissingExtra: The package is not installed, or cannot be imported.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise missing_extra(package, extra, where=where, instead=instead) from error
