"""One registry of everything that has a name: operators, noise models, networks, samplers, readers, commands, ...

A name leads to `"module:Class"` and one line of help; the module is imported on first use. Entries are
found at three places:

* `infield/<room>/entries.py`, for what is common to all domains;
* `infield/<room>/<domain>/entries.py`, for each of `infield.domains.DOMAINS`;
* entry points of other installed packages, in the group `infield.<group>`, e.g. in their `pyproject.toml`::

      [project.entry-points."infield.samplers"]
      my-sampler = "my_package.samplers:MySampler"

Each `entries.py` holds `ENTRIES`: for each group, a dictionary of names with `Entry("module:Class", help)`.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from functools import cache
from importlib import metadata, util
from typing import Any, Literal, NamedTuple, Protocol

from infield.core.errors import InfieldError
from infield.core.suggestions import did_you_mean
from infield.domains import DOMAINS

HOUSE = "infield"


class Group(NamedTuple):
    """A group of entries.

    Arguments:
        room: The room that holds the entries of this package.
        one: What one of them is called in messages.
        interface: What an entry leads to.
    """

    room: str
    one: str
    interface: str


GROUPS = {
    "operators": Group("physics", "operator", "a function of an `OperatorDescription` that returns the operator"),
    "noise_models": Group("physics", "noise model", "a class with `from_description(NoiseDescription)`"),
    "kernels": Group("priors", "kernel", "a dataclass as `priors.gaussian.kernels.Law`"),
    "networks": Group("priors", "network", "an `nn.Module` whose `arguments` build it again"),
    "checkpoints": Group("priors", "kind of checkpoint", "a `Storable`"),
    "priors": Group("priors", "prior", "a function of a description, a grid and a number of channels"),
    "samplers": Group("posterior", "sampler", "a dataclass derived from `posterior.samplers.base.Sampler`"),
    "sampler_adapters": Group("posterior", "adapter of samplers", "a sampler of another one, for one kind of prior"),
    "functionals": Group("posterior", "functional", "a function of fields `(batch, channel, *space)` and their grid"),
    "solvers": Group("posterior", "solver", "a class with `of(measurement, modes)`, see `linear_gaussian.Solver`"),
    "readers": Group(
        "datasets", "reader", "a function of a path, see `readers/open.py` of a domain; its name is DOMAIN.SUFFIX"
    ),
    "simulators": Group("pipelines", "simulator", "a module with `add_arguments(parser)` and `run(arguments)`"),
    "converters": Group("pipelines", "converter", "a module with `add_arguments(parser)` and `run(arguments)`"),
    "emulators": Group(
        "pipelines",
        "emulator",
        "a module with `add_arguments(group)`, `NEEDS` and `run(arguments)`; a kind of checkpoint",
    ),
    "benches": Group("pipelines", "bench", "a module with `run(quick, seed, ...)`, `METRICS` and `METHOD_NOTE`"),
    "evaluations": Group(
        "pipelines",
        "case of evaluation",
        "a function that returns a `pipelines.bench.evaluation.Case`",
    ),
    "report_sections": Group("pipelines", "section of reports", "a function, see `pipelines.report.Section`"),
    "cautions": Group("pipelines", "caution", "a function of a measurement and a prior: a line, or None"),
    "checkpoint_folders": Group("pipelines", "folder of checkpoints", "a package with files NAME.ckpt"),
    "tables": Group("pipelines", "table", "a function without arguments"),
    "commands": Group("pipelines", "command", "a module with `add_arguments(parser)` and `run(arguments)`"),
}


@dataclass(frozen=True)
class Entry:
    """Target of a name: where the thing is defined.

    Arguments:
        target: `"module:Class"`, or a module.
        help: One line.
        aliases: Other names, which lists leave out.
        package: Name of the package that holds it.
        version: Its version; empty for this package.
        papers: What to cite, keys of `pipelines/references.bib`.
        facts: Further columns of the tables in the documentation, by their headings, as Markdown.
    """

    target: str
    help: str
    aliases: tuple[str, ...] = ()
    package: str = HOUSE
    version: str = ""
    papers: tuple[str, ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict, hash=False)

    @property
    def origin(self) -> str:
        """The package, as messages name it."""
        return f"{self.package} {self.version}".strip()


class Storable(Protocol):
    """A thing that a checkpoint holds: how it is written and read again.

    A class, a module or an object with these four. In a checkpoint it is stored under the key `entry_key(kind)`.
    """

    @property
    def kind(self) -> str: ...
    @property
    def version(self) -> int:
        """The newest version of an entry that `from_entry` reads."""
        ...

    def to_entry(self, thing: Any, /) -> dict[str, Any]:
        """Nested dictionaries of tensors, numbers and text, with `version`."""
        ...

    def from_entry(self, entry: Mapping[str, Any], /, *, sha256: str = "") -> Any: ...


Placement = Literal["any grid", "training grid", "context"]


@dataclass(frozen=True)
class StoredKind:
    """A `Storable` made of two functions.

    Arguments:
        kind: Its name.
        version: The newest version of an entry that `from_entry` reads.
        to_entry, from_entry: As there.
        placement: How it becomes the prior of a measurement's field; None if it is no prior. "any grid": it is a
            `LearnedFlow`, whose method `on` gives it on a grid. "training grid": it replaces a prior, trained for a
            family of measurements on one grid. "context": `conditioned_on` maps the names of what it needs to their
            units, and `for_field(grid, channels, values)` gives the prior of a field on a grid at these values,
            numbers or fields `(1, channel, *space)`.
    """

    kind: str
    version: int
    to_entry: Callable[..., dict[str, Any]]
    from_entry: Callable[..., Any]
    placement: Placement | None = None


def entry_key(kind: str) -> str:
    """Key of a checkpoint under which a kind of thing is stored."""
    return f"infield_{kind.replace('-', '_')}"


def names(group: str) -> tuple[str, ...]:
    """All names of a group, without aliases: those of this package first."""
    return tuple(_claims(group))


def suffixes(domain: str) -> tuple[str, ...]:
    """Suffixes of files that readers of a domain are for, e.g. `.npy` for the readers `mri.npy`."""
    every = (name for own, entry in table("readers").items() for name in (own, *entry.aliases))
    return tuple(name.removeprefix(domain) for name in every if name.startswith(f"{domain}."))


def table(group: str) -> dict[str, Entry]:
    """All entries of a group by their names; of a name that several packages claim, the first."""
    return {name: claims[0] for name, claims in _claims(group).items()}


def find(group: str, name: str) -> Entry:
    """The entry of a name, or of an alias; nothing is imported.

    Raises:
        InfieldError: The name is unknown, or several packages claim it.
    """
    claims = [
        entry for own, entries in _claims(group).items() for entry in entries if name == own or name in entry.aliases
    ]
    one = GROUPS[group].one
    if not claims:
        raise InfieldError(
            where=one,
            found=f"'{name}'",
            expected=f"one of {', '.join(names(group)) or 'none'}",
            remedy=did_you_mean(name, names(group)),
        )
    if len(claims) > 1:
        packages = " and in ".join(sorted({entry.origin for entry in claims}, key=lambda p: (p != HOUSE, p)))
        raise InfieldError(
            where=f"{one} '{name}'",
            found=f"it in {packages}",
            expected="one package with this name",
            remedy="uninstall the other",
        )
    return claims[0]


def known(group: str, name: object) -> bool:
    """Whether something of this name, or with this alias, exists."""
    return any(name == own or name in entry.aliases for own, entries in _claims(group).items() for entry in entries)


def load(group: str, name: str) -> Any:
    """Load what a name refers to.

    Raises:
        InfieldError: As `find`; or it is of another package, which cannot be imported.
    """
    entry = find(group, name)
    if entry.package == HOUSE:
        return _resolve(entry.target)
    try:
        found = _resolve(entry.target)
    except Exception as error:  # of a package that is not ours: whatever it raises
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise InfieldError(
            where=f"{GROUPS[group].one} '{name}'",
            found=f"the package {entry.origin}, whose '{entry.target}' cannot be imported ({reason})",
            expected=GROUPS[group].interface,
            remedy="mend the package or uninstall it",
        ) from error
    for record in _records.get():
        record[entry.package] = entry.version
    return found


def name_of(group: str, thing: Any) -> str | None:
    """The name that leads to a class or a function; None where none does. Nothing is imported."""
    for name, entry in table(group).items():
        module, _, attribute = entry.target.partition(":")
        if module in sys.modules and attribute and _attribute(sys.modules[module], attribute) is thing:
            return name
    return None


def plugin_of(group: str, thing: Any) -> dict[str, str]:
    """The package, with its version, that a class or a function with a name is of; empty for this package."""
    name = name_of(group, thing)
    entry = None if name is None else table(group)[name]
    return {} if entry is None or entry.package == HOUSE else {entry.package: entry.version}


@contextmanager
def plugins_recorded() -> Iterator[dict[str, str]]:
    """The other packages, with their versions, from which things are loaded meanwhile."""
    record: dict[str, str] = {}
    token = _records.set((*_records.get(), record))
    try:
        yield record
    finally:
        _records.reset(token)


def plugins_so_far() -> dict[str, str]:
    """The other packages, with their versions, from which things were loaded within `plugins_recorded`."""
    return {package: version for record in _records.get() for package, version in record.items()}


_records: ContextVar[tuple[dict[str, str], ...]] = ContextVar("records", default=())


def _resolve(target: str) -> Any:
    module, _, attribute = target.partition(":")
    found = importlib.import_module(module)
    for part in filter(None, attribute.split(".")):
        found = getattr(found, part)
    return found


def _attribute(module: Any, attribute: str) -> Any:
    found = module
    for part in attribute.split("."):
        found = getattr(found, part, None)
    return found


def _claims(group: str) -> dict[str, list[Entry]]:
    """Every name of a group, with the entries of all packages that claim it."""
    return _collected(group, tuple(sys.path))


@cache
def _collected(group: str, path: tuple[str, ...]) -> dict[str, list[Entry]]:
    """`path` is where packages are found; where it changes, they are looked for anew."""
    found: dict[str, list[Entry]] = {}
    room = f"{HOUSE}.{GROUPS[group].room}"
    for module in (f"{room}.entries", *(f"{room}.{domain}.entries" for domain in DOMAINS)):
        for name, entry in _table_of(module).get(group, {}).items():
            found.setdefault(name, []).append(entry)
    for point in _entry_points(path).select(group=f"{HOUSE}.{group}"):
        entry = Entry(point.value.replace(" ", ""), "no description", package="unknown")
        if point.dist is not None:
            summary = point.dist.metadata["Summary"] if "Summary" in point.dist.metadata else entry.help
            entry = replace(entry, help=summary, package=point.dist.name, version=point.dist.version)
        found.setdefault(point.name, []).append(entry)
    return found


@cache
def _entry_points(path: tuple[str, ...]) -> Any:
    """Of all packages: reading them takes a tenth of a second of a processor, once for all groups."""
    return metadata.entry_points()


def _table_of(module: str) -> dict[str, dict[str, Entry]]:
    """`ENTRIES` of a module; nothing where a domain has no such module in a room."""
    try:
        if util.find_spec(module) is None:
            return {}
    except ModuleNotFoundError:  # the domain has no folder in this room
        return {}
    found: dict[str, dict[str, Entry]] = importlib.import_module(module).ENTRIES
    return found
