"""Pages that are generated before a build: tables of the registry and of the benches, model cards, the gallery.

Sources: the registry, `docs/benchmarks/*.json`, the cards beside the checkpoints, the notebooks. Pages go to
`docs/generated/`, which git ignores; they are written only if they change, so that a second build is incremental.
"""

from __future__ import annotations

import inspect
import json
import re
import statistics
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parents[1]
ROOT = DOCS.parent
GENERATED = DOCS / "generated"
EXECUTED = ROOT / "build" / "notebooks"
"""Where `make notebooks` leaves the notebooks it has executed, with their outputs."""

MISSING = "–"


def generate(folder: Path = GENERATED) -> None:
    """Write every generated page, and remove those that are no longer generated."""
    pages = {
        **registry_pages(),
        **{f"benchmarks/{path.stem}.md": bench_table(path) for path in bench_files()},
        "benchmarks/targets.md": target_table(bench_files()),
        **cards(),
        **gallery(),
        "project.md": project(),
    }
    for name, text in pages.items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != text:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
    for path in folder.rglob("*"):
        if path.is_file() and path.relative_to(folder).as_posix() not in pages:
            path.unlink()


def markdown_table(header: Sequence[str], rows: Iterable[Sequence[object]], numeric: bool = False) -> str:
    """A table in Markdown.

    Arguments:
        header: Column titles.
        rows: Cells; a vertical bar in one must be escaped.
        numeric: Whether columns of numbers alone are aligned to the right.
    """
    body = [[str(cell) for cell in row] for row in rows]
    right = [numeric and bool(body) and all(_is_number(row[i]) for row in body) for i in range(len(header))]
    rules = ["---:" if aligned else "---" for aligned in right]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [list(header), rules, *body]) + "\n"


def _is_number(cell: str) -> bool:
    return not cell or bool(re.match(r"^[≥-]?\s*[\d.,]+(e[-+]?\d+)?$", cell.strip("*")))


# -------------------------------------------------------------------------------------------------------- the registry


def registry_pages() -> dict[str, str]:
    """Tables of everything that has a name in the registry."""
    from infield.core import registry

    pages = {
        "samplers.md": sampler_table(),
        "operators.md": fact_table("operators", "name"),
        "deepinv_classes.md": deepinv_classes(),
        "noise_models.md": fact_table("noise_models", "model"),
    }
    for group in registry.GROUPS:
        rows = [(f"`{name}`", entry.help) for name, entry in sorted(registry.table(group).items())]
        pages[f"list_{group}.md"] = markdown_table(("name", "what it is"), rows)
    groups = [
        (f"`infield.{name}`", group.interface, len(registry.names(name))) for name, group in registry.GROUPS.items()
    ]
    pages["groups.md"] = markdown_table(("entry point", "an entry leads to", "names today"), groups)
    pages["commands.md"] = command_help()
    pages["face.md"] = public_names()
    return pages


def public_names() -> str:
    """Directives that document every public name of the package."""
    import infield

    lines = ["```{eval-rst}"]
    for name in sorted(name for name in infield.__all__ if not name.startswith("_")):
        thing = getattr(infield, name)
        if inspect.isclass(thing):
            lines += [f".. autoclass:: infield.{name}", "   :members:", "   :no-index:", ""]
        elif inspect.isfunction(thing):
            lines += [f".. autofunction:: infield.{name}", "   :no-index:", ""]
        else:
            summary = (thing.__doc__ or "").strip().partition("\n")[0]
            lines += [f"**infield.{name}**: {summary}", ""]
    return "\n".join([*lines, "```", ""])


SUBCOMMANDS = {"convert": "converters", "simulate": "simulators", "bench": "benches"}


def command_help() -> str:
    """Help of every command, as `--help` prints it."""
    from infield.core import registry
    from infield.pipelines.cli import parser_of

    parts = []
    for verb, entry in registry.table("commands").items():
        parts.append(f"## `infield {verb}`\n\n{_sentence(entry.help)}\n")
        parser = parser_of(verb, registry.load("commands", verb))
        parts.append(f"```text\n{parser.format_help().rstrip()}\n```\n")
        if verb in SUBCOMMANDS:
            parts.append(f"```{{include}} generated/list_{SUBCOMMANDS[verb]}.md\n```\n")
    return "\n".join(parts)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def sampler_table() -> str:
    """One section per sampler: facts of its entry and caveat of its class."""
    from infield.core import registry

    summary, details = [], []
    for name, entry in registry.table("samplers").items():
        caveat = registry.load("samplers", name).caveat
        kind = "estimate or approximation" if caveat else "posterior samples"
        summary.append((f"[`{name}`](#sampler-{name})", entry.help, kind))
        aliases = ", ".join(f"`{alias}`" for alias in entry.aliases)
        facts = {**entry.facts, "caveat": caveat or "none: samples of the posterior", "defined in": _source(entry)}
        if aliases:
            facts["other names"] = aliases
        lines = "\n".join(f"* **{key.capitalize()}**: {value}" for key, value in facts.items())
        details.append(f"(sampler-{name})=\n## `{name}`\n\n{_sentence(entry.help)}\n\n{lines}\n")
    return markdown_table(("sampler", "what it is", "gives"), summary) + "\n" + "\n".join(details)


def _source(entry: Any) -> str:
    module, _, attribute = entry.target.partition(":")
    return f"{{py:obj}}`{module}.{attribute}`"


def fact_table(group: str, title: str) -> str:
    """Names of a group with the facts of their entries."""
    from infield.core import registry

    table = registry.table(group)
    columns = next(list(entry.facts) for entry in table.values() if entry.facts)
    rows = [(f"`{name}`", *(entry.facts.get(column, "") for column in columns)) for name, entry in table.items()]
    return markdown_table((title, *columns), rows)


# --------------------------------------------------------------------------------------------------------- the benches


def bench_files() -> list[Path]:
    return sorted((DOCS / "benchmarks").glob("*.json"))


def bench_table(path: Path) -> str:
    """Table and origin of one bench.

    A file holds either `columns` and `rows`, or the `records` that `infield bench --records` writes; see `_pivoted`.
    With `"layout": "targets"` only figures with a target are shown, one a row.
    """
    document = json.loads(path.read_text(encoding="utf-8"))
    if document.get("layout") == "targets":
        return f"{markdown_table(TARGETS[1:], [row[1:] for row in _targets([path])])}\n{origin(document, path.name)}\n"
    columns, rows = (document["columns"], document["rows"]) if "rows" in document else _pivoted(document)
    return f"{markdown_table(columns, rows, numeric=True)}\n{_absent(document)}{origin(document, path.name)}\n"


def _absent(document: dict[str, Any]) -> str:
    """Methods without figures in some cases, a line a reason: records of the metric `absent`."""
    methods: dict[str, dict[str, list[str]]] = {}
    for r in document.get("records", []):
        if r["metric"] == ABSENT:
            methods.setdefault(r["value"], {}).setdefault(f"`{r['method']}`", []).append(r["case"])
    lines = []
    for reason, found in methods.items():
        named = "; ".join(f"{method} ({', '.join(cases)})" for method, cases in found.items())
        lines.append(f"* {named}: {reason}")
    return "Not judged:\n\n" + "\n".join(lines) + "\n\n" if lines else ""


def origin(document: dict[str, Any], name: str) -> str:
    """The line below a table: command, date, seed and versions of the run."""
    versions = {k: v for k, v in (document.get("versions") or {}).items() if v != "not installed"}
    stated = ", ".join(f"{package} {version}" for package, version in versions.items())
    return (
        f"*`{document['command']}`, {document['date']}, seed {document['seed']}; "
        f"{stated or 'measured earlier, versions of the libraries not recorded'}. Data: `docs/benchmarks/{name}`.*\n"
    )


def _pivoted(document: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Records as a table: a row per case and method, the mean over its truths ("case #n"); with a `summary` over the
    cases, a row per method.

    `metrics` of a document names the metrics to show and their titles; without it all are shown.
    """
    records = document["records"]
    titles = document.get("metrics") or {r["metric"]: r["metric"].replace("_", " ") for r in records}
    titles = {metric: title for metric, title in titles.items() if metric != ABSENT}
    units = {r["metric"]: "" if r["unit"] == "1" else f" ({r['unit']})" for r in records}
    summary = SUMMARIES.get(document.get("summary", ""))
    values: dict[tuple[str, ...], dict[str, list[Any]]] = {}
    for r in sorted(records, key=lambda r: r.get("target") is not None):  # a judged mean does not count again
        row = (r["method"],) if summary else (r["case"].partition(" #")[0], r["method"])
        if r.get("target") is not None and r["metric"] in values.get(row, {}):
            continue
        values.setdefault(row, {}).setdefault(r["metric"], []).append(r["value"])
    rows = []
    for (*case, method), found in values.items():
        if not titles.keys() & found.keys():
            continue
        cells = [_figure(found.get(metric, []), summary) for metric in titles]
        rows.append([*case, f"`{method}`", *cells])
    first = ["method"] if summary else ["case", "method"]
    return [*first, *(f"{title}{units.get(metric, '')}" for metric, title in titles.items())], rows


ABSENT = "absent"
"""Metric of records that hold why a method has no figures."""

SUMMARIES: dict[str, Callable[[list[float]], float]] = {
    "max": max,
    "median": statistics.median,
    "mean": statistics.mean,
}


def _figure(values: list[Any], summary: Callable[[list[float]], float] | None) -> str:
    """A figure with three digits; text, e.g. why there is none, as it is."""
    if not values:
        return ""
    if isinstance(values[0], str):
        return values[0]
    value = (summary or statistics.mean)([v for v in values if not isinstance(v, str)])
    size = abs(value)
    digits = 0 if size >= 100 or float(value).is_integer() else 1 if size >= 10 else 2 if size >= 1 else 3
    return f"{value:.{digits}f}" if size >= 0.001 or value == 0 else f"{value:.1e}"


TARGETS = ("bench", "figure", "criterion", "found", "result")


def target_table(paths: Iterable[Path]) -> str:
    """Every figure for which a target was set, met or missed."""
    return markdown_table(TARGETS, _targets(paths))


def _targets(paths: Iterable[Path]) -> list[tuple[str, ...]]:
    rows = []
    for path in paths:
        document = json.loads(path.read_text(encoding="utf-8"))
        targets = [*document.get("targets", []), *(r for r in document.get("records", []) if r.get("target"))]
        for entry in targets:
            what = entry.get("what") or ", ".join(str(entry[key]) for key in ("case", "method", "metric"))
            value = entry.get("found", entry.get("value"))
            found = f"{value:.4g}" if isinstance(value, float) else str(value)
            found += f" ± {entry['error']:.2g}" if entry.get("error") else ""
            met = {True: "met", False: "**missed**", None: "not judged"}[entry["met"]]
            rows.append((f"`{path.stem}`", what, entry["target"], found, met))
    return rows


# ---------------------------------------------------------------------------------------------- cards and the gallery


def deepinv_classes() -> str:
    """Table of deepinv's operators and whether a measurement file can name them."""
    from infield.physics.operators.deepinv_classes import table

    rows = [
        (
            f"`{row.name}`",
            "linear" if row.linear else "nonlinear",
            f"supported, data {row.data_shape}" if not row.refused else f"refused: {row.refused.partition(': ')[2]}",
        )
        for row in table()
    ]
    return markdown_table(("class", "kind", "an example of a file is"), rows)


def cards() -> dict[str, str]:
    """Model cards, as they lie beside the checkpoints, and their list."""
    pages, rows = {}, []
    for path in sorted((ROOT / "pipelines" / "checkpoints").glob("*.md")):
        text = path.read_text(encoding="utf-8")
        title = text.splitlines()[0].lstrip("# ")
        name, _, what = title.partition(":")
        pages[f"cards/{path.stem}.md"] = text
        size = path.with_suffix(".ckpt")
        stated = f"{size.stat().st_size / 1e6:.1f} MB" if size.is_file() else MISSING
        rows.append((f"[`{name.strip()}`](generated/cards/{path.stem}.md)", what.strip(), stated))
    tree = "\n".join(f"generated/{name.removesuffix('.md')}" for name in pages)
    pages["cards.md"] = (
        f"{markdown_table(('file', 'what it is', 'size'), rows)}\n```{{toctree}}\n:hidden:\n\n{tree}\n```\n"
    )
    return pages


def gallery() -> dict[str, str]:
    """Notebooks: the executed copies of `make notebooks` if they are up to date, else those without outputs."""
    pages, entries = {}, []
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        document = json.loads(executed_or_stored(path).read_text(encoding="utf-8"))
        document["metadata"].setdefault("mystnb", {})["execution_mode"] = "off"
        pages[f"notebooks/{path.name}"] = json.dumps(document, ensure_ascii=False, indent=1) + "\n"
        entries.append(f"generated/notebooks/{path.stem}")
    pages["gallery.md"] = "```{toctree}\n:maxdepth: 1\n\n" + "\n".join(entries) + "\n```\n"
    return pages


def project() -> str:
    """The last part of the table of contents: these pages, and those at the top that no other part names."""
    named = re.findall(r"^[\w/]+$", (DOCS / "index.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    first = ["extending", "contributing", "changelog"]
    others = sorted(path.stem for path in DOCS.glob("*.md") if path.stem not in {*named, *first, "index"})
    entries = "\n".join([*first, *others])
    return f"```{{toctree}}\n:maxdepth: 1\n:caption: Project\n\n{entries}\n```\n"


def executed_or_stored(path: Path) -> Path:
    """The executed copy of a notebook if its cells are those that are stored, else the notebook itself."""
    copy = EXECUTED / path.name
    if not copy.is_file():
        return path
    same = _sources(copy) == _sources(path)
    return copy if same else path


def _sources(path: Path) -> list[str]:
    return ["".join(cell["source"]) for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]]
