"""Errors that a user can fix: one line, kept in fields, so that no caller has to parse it.

The line is "where: found X, expected Y; remedy". Texts name a parameter by a placeholder, `{sampler}`, and the error
lists it under `parameters`. Python callers read the parameter as an argument, `sampler="faps"`; the command line
renders the same error with its options.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Self

_FIELDS = ("message", "where", "found", "expected", "remedy")
_LAST_FIRST = ("remedy", "expected", "found", "message", "where")


class InfieldError(ValueError):
    """An error that the user can fix; the message is one line.

    It states the place, what was found, what was expected, and what to do. The commands print it and exit with
    status 2. Every field is kept as text; an empty one is omitted from the line.

    Arguments:
        message: What is wrong, where it is not of the form "found X, expected Y".
        where: Place of the fault: a file, a key, an argument.
        found: What is there.
        expected: What should be there.
        remedy: What to do. In parentheses it follows a space, else a semicolon.
        parameters: Names of the parameters that the texts hold as placeholders, `{name}`, each with the value to give
            it; names alone, or a value None, for placeholders without a value. Other braces in the texts stay as they
            are.

    Raises:
        TypeError: Both a message and what was found or expected are given.

    Examples:
        >>> print(InfieldError(where="m.zarr", found="3 axes", expected="2", remedy="({order})", parameters=["order"]))
        m.zarr: found 3 axes, expected 2 (order)
        >>> print(InfieldError("needs Gaussian noise", remedy="use {sampler}", parameters={"sampler": "faps"}))
        needs Gaussian noise; use sampler="faps"
    """

    message: str
    where: str
    found: str
    expected: str
    remedy: str
    parameters: dict[str, Any]

    def __init__(
        self,
        message: object = "",
        *,
        where: object = "",
        found: object = "",
        expected: object = "",
        remedy: object = "",
        parameters: Mapping[str, Any] | Iterable[str] = (),
    ) -> None:
        for name, value in zip(_FIELDS, (message, where, found, expected, remedy), strict=True):
            setattr(self, name, f"{value}")
        if self.message and (self.found or self.expected):
            raise TypeError("an error has a message, or what was found and expected: found both, expected one of them")
        self.parameters = dict(parameters if isinstance(parameters, Mapping) else dict.fromkeys(parameters))
        super().__init__(str(self))

    def __str__(self) -> str:
        return self.render()

    def render(self, parameter: Callable[[str, Any], str] | None = None) -> str:
        """The error in one line.

        Arguments:
            parameter: Turns name and value of a parameter into text; by default `as_argument`.
        """
        found = f"found {self.found}" if self.found else ""
        expected = f"expected {self.expected}" if self.expected else ""
        line = ": ".join(filter(None, (self.where, self.message or ", ".join(filter(None, (found, expected))))))
        separator = " " if self.remedy.startswith("(") else "; "
        line = separator.join(filter(None, (line, self.remedy)))
        return self._placeholders(line, parameter or as_argument)

    def _placeholders(self, line: str, parameter: Callable[[str, Any], str]) -> str:
        if not self.parameters:
            return line
        names = "|".join(map(re.escape, self.parameters))
        return re.sub(rf"\{{({names})\}}", lambda match: parameter(match[1], self.parameters[match[1]]), line)

    def within(self, place: object) -> Self:
        """The same error with a place put before `where`; as it is where it begins with this place already.

        Returns:
            A copy, to be raised from this error: `raise error.within(path) from error`.
        """
        first = f"{place}"
        if self.where == first or self.where.startswith(f"{first}: "):
            return self._with(where=self.where)
        return self._with(where=": ".join(filter(None, (first, self.where))))

    def followed_by(self, text: str) -> Self:
        """A copy with a text at the end of the line, as a part of its last field."""
        last = next((name for name in _LAST_FIRST if getattr(self, name)), "message")
        return self._with(**{last: getattr(self, last) + text})

    def with_remedy(self, remedy: str) -> Self:
        """A copy with one more remedy, after a semicolon."""
        return self._with(remedy=remedy) if not self.remedy else self.followed_by(f"; {remedy}")

    def _with(self, **fields: str) -> Self:
        # not copy.copy: after a task of dask has failed, tblib's reducer is in force, whose copies share their fields
        changed = type(self).__new__(type(self))
        changed.__dict__.update(self.__dict__ | fields)
        changed.args = (str(changed),)
        return changed


class ArgumentError(InfieldError):
    """An argument is wrong whatever the file that it is applied to: the line names no file."""


def as_argument(name: str, value: Any = None) -> str:
    """A parameter as a Python caller gives it, e.g. `sampler="faps"`; its name alone if the value is None."""
    if value is None:
        return name
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'{name}="{escaped}"'
    return f"{name}={value!r}"
