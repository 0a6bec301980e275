"""Tables of what has a name: priors, samplers, operators, configurations, ..."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from infield.core import registry
from infield.pipelines.package_data import shipped_checkpoints, shipped_configs

BUILT_IN_PRIORS = {
    "fitted": "stationary Gaussian prior fitted to the measurement, the default",
    "matern-1/2": "fitted, with Matern order 1/2",
    "matern-3/2": "fitted, with Matern order 3/2",
    "matern-5/2": "fitted, with Matern order 5/2",
}

GROUPS = {
    "samplers": "samplers",
    "operators": "operators",
    "noise-models": "noise_models",
    "networks": "networks",
    "kernels": "kernels",
    "readers": "readers",
    "converters": "converters",
    "simulators": "simulators",
    "benches": "benches",
}
"""Kind of name -> group of the registry."""

KINDS = ("configs", "priors", *GROUPS)

COMPOSED = {
    "compose": "operators one after the other, outermost first",
    "sum": "weighted sum of linear operators",
    "deepinv:<ClassName>": "any operator of deepinv.physics",
}


@dataclass(frozen=True)
class Table:
    """Names with a line of help each; prints as text, and as HTML in a notebook.

    Arguments:
        title: What they are names of.
        rows: Name -> help.
    """

    title: str
    rows: dict[str, str]

    def __iter__(self) -> Iterator[str]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __contains__(self, name: object) -> bool:
        return name in self.rows

    def __getitem__(self, name: str) -> str:
        return self.rows[name]

    def __repr__(self) -> str:
        width = max(map(len, self.rows), default=0)
        gap = " " * (width + 2)
        lines = (
            textwrap.fill(f"{name.ljust(width)}  {help}", width=max(100, width + 40), subsequent_indent=gap)
            for name, help in self.rows.items()
        )
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        body = "".join(f"<tr><td><code>{escape(n)}</code></td><td>{escape(h)}</td></tr>" for n, h in self.rows.items())
        return f"<table><caption>{escape(self.title)}</caption><tbody>{body}</tbody></table>"


def table_of(kind: str) -> Table:
    """The table of one of `KINDS`; nothing heavy is imported.

    Arguments:
        kind: E.g. "samplers".
    """
    if kind == "configs":
        return Table(kind, {name: title for name, (_, title) in shipped_configs().items()})
    if kind == "priors":
        return Table(kind, {**BUILT_IN_PRIORS, **shipped_checkpoints()})
    more = COMPOSED if kind == "operators" else {}
    return Table(kind, {name: entry.help for name, entry in registry.table(GROUPS[kind]).items()} | more)


def samplers() -> Table:
    """All samplers by name, a line each."""
    return table_of("samplers")


def operators() -> Table:
    """All forward operators that a measurement file may name."""
    return table_of("operators")


def priors() -> Table:
    """All priors by name: those fitted to the measurement, and the checkpoints that are installed or have a card."""
    return table_of("priors")


def networks() -> Table:
    """All networks that a configuration may name."""
    return table_of("networks")


def readers() -> Table:
    """All readers of files of instruments and simulators, by domain and suffix."""
    return table_of("readers")


def configs() -> Table:
    """All configurations of `infield.fit` by name."""
    return table_of("configs")
