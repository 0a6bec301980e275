"""Errors of the parser of `infield fit` about options and configurations, in one line."""

from __future__ import annotations

import importlib
import inspect
import re
from difflib import get_close_matches

from infield.core.errors import InfieldError

_EMPTY = re.compile(
    r"^((- )?Does not validate against any of the Union subtypes|Subtypes: .*|Errors:|- Expected a <class 'NoneType'>"
    r"|- Expected a path but .* either not accessible or invalid|Given value( type)?: .*|)$"
)
_CLASS = re.compile(r"Problem with given class_path '([\w.]+)'")
_OPTION = re.compile(r"(?:Option|Key) '([\w.]+)' is not (?:accepted|expected)")


def explained(message: str) -> InfieldError:
    """The error of a message of jsonargparse, which spreads over many lines.

    Arguments:
        message: Its text.
    """
    lines = [line.strip() for line in message.strip().splitlines()]
    kept = [line.removeprefix("- ").rstrip(":") for line in lines if not _EMPTY.match(line)]
    line = ": ".join(kept)
    line = re.sub(r'Parser key "([\w.]+)"', r"--\1", line, count=1)
    line = re.sub(r'Parser key "([\w.]+)"', r"'\1'", line)
    line = _CLASS.sub(lambda found: found[1].rsplit(".", 1)[-1], line)
    return InfieldError(
        f"{line}{_nearest(message)}", where="infield fit", remedy="'infield fit --help-all' lists the options"
    )


def _nearest(message: str) -> str:
    """Parameters of the class that resemble the one that it does not take."""
    classes, option = _CLASS.findall(message), _OPTION.search(message)
    if not classes or option is None:
        return ""
    module, _, name = classes[-1].rpartition(".")
    try:
        known = list(inspect.signature(getattr(importlib.import_module(module), name)).parameters)
    except (ImportError, AttributeError, ValueError):
        return ""
    near = get_close_matches(option[1].rsplit(".", 1)[-1], known, n=3, cutoff=0.5)
    return f", expected one of {', '.join(known)}" if not near else f", perhaps {' or '.join(near)}"
