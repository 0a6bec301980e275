"""The documentation: what the README of 2026-11-30 had, valid commands, tables from one source each."""

from __future__ import annotations

import inspect
import json
import re
import shlex
import sys
from pathlib import Path

import pytest

import infield
from infield.core import registry
from infield.pipelines.cli import parser_of

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
sys.path.insert(0, str(DOCS / "extensions"))

import docstrings  # noqa: E402
import generated  # noqa: E402

INVENTORY = json.loads((Path(__file__).parent / "readme_of_2026_11_30.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, str]:
    """Sources of all pages by name, generated ones included."""
    folder = tmp_path_factory.mktemp("generated")
    generated.generate(folder)
    written = {path.relative_to(DOCS).as_posix(): path for path in DOCS.rglob("*.md") if "generated" not in path.parts}
    made = {f"generated/{path.relative_to(folder).as_posix()}": path for path in folder.rglob("*.md")}
    return {name: path.read_text(encoding="utf-8") for name, path in (written | made).items()}


def joined(pages: dict[str, str]) -> str:
    contributing = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")  # a page by inclusion
    return " ".join(" ".join([*pages.values(), contributing]).split())


def headers(text: str) -> set[tuple[str, ...]]:
    """Header rows of all tables, as cells."""
    rows = re.findall(r"^(\|.*\|)\n\|[\s:|-]+\|$", text, flags=re.MULTILINE)
    return {cells(row) for row in rows}


def cells(row: str) -> tuple[str, ...]:
    return tuple(cell.strip() for cell in re.split(r"(?<!\\)\|", row)[1:-1])


def lost_commands(commands: list[str], text: str) -> list[str]:
    return [command for command in commands if " ".join(command.split()) not in text]


def test_every_command_of_the_old_readme_is_in_the_docs(pages):
    assert lost_commands(INVENTORY["commands"], joined(pages)) == []


def test_every_table_of_the_old_readme_is_in_the_docs(pages):
    found = headers("\n".join(pages.values()))
    lost = [table for table in INVENTORY["tables"] if tuple(table.get("now", table["then"])) not in found]
    assert lost == []


def test_what_is_lost_is_noticed(pages):
    assert lost_commands(["infield bench kspace", "infield gone"], joined(pages)) == ["infield gone"]
    assert ("method", "elegance") not in headers("\n".join(pages.values()))


def shell_lines(text: str) -> list[str]:
    """Commands of the blocks that are marked as shell."""
    blocks = re.findall(r"^```sh\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
    return [line for block in blocks for line in block.replace("\\\n", " ").splitlines() if line.strip()]


def refusal(line: str) -> str | None:
    """Why a command line is none; None if it is one, or one of another program."""
    words = shlex.split(line, comments=True)
    if words[:1] == ["reconstruct"]:
        words = ["infield", *words]
    if words[:1] != ["infield"]:
        return None
    if len(words) < 2 or not registry.known("commands", words[1]):
        return f"no command in {line!r}"
    if words[1] == "fit":
        config = words[words.index("--config") + 1]
        return None if (ROOT / config).is_file() else f"no configuration {config}"
    try:
        parser_of(words[1], registry.load("commands", words[1])).parse_args(words[2:])
    except SystemExit as leave:
        return None if leave.code in (0, None) else f"{line!r} is refused"
    except Exception as error:
        return f"{line!r}: {error}"
    return None


def test_every_command_line_of_the_docs_is_accepted(pages, capsys):
    texts = [*pages.values(), (ROOT / "README.md").read_text(encoding="utf-8")]
    lines = [line for text in texts for line in shell_lines(text)]
    assert len(lines) > 40
    assert [why for why in map(refusal, lines) if why] == []


@pytest.mark.parametrize(
    "line", ["infield nonsense", "reconstruct m.zarr -o p.zarr --nonsense", "infield fit --config none.yaml"]
)
def test_a_command_line_that_is_none_is_noticed(line, capsys):
    assert refusal(line)


def test_every_bench_file_is_shown_once_and_states_its_run(pages):
    shown = re.findall(r"generated/benchmarks/(\w+)\.md", " ".join(pages.values()))
    for path in generated.bench_files():
        document = json.loads(path.read_text(encoding="utf-8"))
        assert document.keys() >= {"title", "command", "date", "seed", "versions"}, path.name
        assert shown.count(path.stem) == 1, path.name
        assert all(len(row) == len(document["columns"]) for row in document.get("rows", [])), path.name


def test_records_of_a_bench_become_a_table(tmp_path):
    one = {"bench": "b", "case": "c", "method": "m", "metric": "crps", "value": 0.25, "unit": "K"}
    met = {**one, "metric": "calls", "value": 3.0, "unit": "1", "target": "at most 2", "met": False}
    document = {
        "title": "t",
        "command": "infield bench b",
        "date": "2026-11-30",
        "seed": 1,
        "versions": {"torch": "2.6"},
    }
    path = tmp_path / "b.json"
    path.write_text(json.dumps({**document, "records": [one, met]}), encoding="utf-8")
    assert "| case | method | crps (K) | calls |" in generated.bench_table(path)
    assert "| c | `m` | 0.250 | 3 |" in generated.bench_table(path)
    assert "2026-11-30, seed 1; torch 2.6" in generated.bench_table(path)
    assert "| at most 2 | 3 | **missed** |" in generated.target_table([path])


def test_every_sampler_operator_and_noise_model_has_its_facts():
    for group in ("samplers", "operators", "noise_models"):
        for name, entry in registry.table(group).items():
            assert entry.facts or entry.package != registry.HOUSE, f"{group}: {name} has no facts for its table"


def test_executed_notebooks_are_taken_if_they_are_up_to_date(tmp_path, monkeypatch):
    monkeypatch.setattr(generated, "EXECUTED", tmp_path)
    stored = ROOT / "notebooks" / "00_first_posterior.ipynb"
    assert generated.executed_or_stored(stored) == stored
    (tmp_path / stored.name).write_bytes(stored.read_bytes())
    assert generated.executed_or_stored(stored) == tmp_path / stored.name
    old = json.loads(stored.read_text(encoding="utf-8"))
    old["cells"][0]["source"] = ["another title"]
    (tmp_path / stored.name).write_text(json.dumps(old), encoding="utf-8")
    assert generated.executed_or_stored(stored) == stored


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("E[x_1 | x_t], `n` draws", "E[x_1 \\| x_t], ``n`` draws"),
        ("a trailing x_ and a *", "a trailing x\\_ and a \\*"),
        (":math:`x_1 | x_t` stays", ":math:`x_1 | x_t` stays"),
    ],
)
def test_docstrings_become_restructuredtext(line, expected):
    assert docstrings.to_restructuredtext([line]) == [expected]


def test_tables_and_formulas_of_docstrings():
    text = [
        "Table:",
        "",
        "| paper | here |",
        "| --- | --- |",
        "| p(y | x) | `log_prob` |",
        "",
        "Formula",
        "",
        "    a = b",
    ]
    lines = docstrings.to_restructuredtext(text)
    assert ".. list-table::" in lines and "   * - p(y" not in lines
    assert lines.index("::") < lines.index("    a = b")


def test_the_readme_is_short():
    assert (ROOT / "README.md").stat().st_size <= 6_000


def test_contributing_is_short():
    assert len((ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()) <= 80


def broken_links(path: Path) -> list[str]:
    """Relative links of a page at the top of the repository that lead nowhere."""
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", path.read_text(encoding="utf-8"))
    return [link for link in links if "://" not in link and not (path.parent / link).exists()]


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_of_pages_at_the_top_lead_somewhere(name):
    assert broken_links(ROOT / name) == []


def test_a_broken_link_is_noticed(tmp_path):
    (tmp_path / "a.md").write_text("[b](b.md), [a](a.md#title), [c](https://example.org/c)", encoding="utf-8")
    assert broken_links(tmp_path / "a.md") == ["b.md"]


def undocumented(thing: object) -> list[str]:
    """Parameters of a public class or function that its docstring does not describe."""
    text = inspect.getdoc(thing) or ""
    parameters = list(inspect.signature(thing).parameters.values())  # type: ignore[arg-type]
    return [p.name for p in parameters if not re.search(rf"\b{p.name}\b", text)] + ([] if text else ["all"])


def test_every_public_name_is_documented():
    lost = {}
    for name in infield.__all__:
        thing = getattr(infield, name)
        if inspect.isfunction(thing) or (inspect.isclass(thing) and not issubclass(thing, Exception)):
            lost[name] = undocumented(thing)
    assert {name: parameters for name, parameters in lost.items() if parameters} == {}


def test_an_undocumented_parameter_is_noticed():
    def area(width: float, height: float) -> float:
        """Area of a rectangle of some width."""
        return width * height

    assert undocumented(area) == ["height"]
