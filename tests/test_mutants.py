"""The mutants of `make mutants`: what is changed and what is not, the tests that are chosen, and a house of toys."""

from __future__ import annotations

import ast
import builtins
import json
import sys
import textwrap
from pathlib import Path

import pytest
import yaml
from mutants import changes, hunt
from mutants.__main__ import EQUIVALENT, ROOT, equivalent
from mutants.hunt import Hunt
from mutants.nearest import Nearest
from mutants.reach import Map, probed
from mutants.runner import Runner

MODULE = '''
"""A docstring with 1 + 1."""

import math
from typing import Literal

Number = int | float


def area(radius: Literal[3] | float = 2.0, *, ä: bool = True) -> "int | float":
    """Of a circle, 2 > 1."""
    if radius < 0 or not ä:
        raise ValueError(f"found {radius + 1}")
    assert isinstance(radius, int | float)
    return math.pi * radius ** 2
'''


def every_mutant(source: str) -> set[tuple[str, str]]:
    found = set()
    for place, node in enumerate(changes.places(ast.parse(source))):
        for changed in changes.changes(node):
            mutant = changes.mutant(Path("x.py"), source.encode(), place, changed)
            compile(mutant.source, "x.py", "exec")
            assert ast.dump(ast.parse(mutant.source)) != ast.dump(ast.parse(source))
            found.add((mutant.before, mutant.after))
    return found


def test_operators_comparisons_numbers_and_truth_values_are_changed_and_nothing_else():
    assert every_mutant(MODULE) == {
        ("2.0", "4.0"),
        ("2.0", "1.0"),
        ("True", "False"),
        ("radius < 0 or not ä", "radius < 0 and (not ä)"),
        ("radius < 0", "radius <= 0"),
        ("radius < 0", "radius >= 0"),
        ("0", "1"),
        ("not ä", "ä"),
        ("math.pi * radius ** 2", "math.pi / radius ** 2"),
        ("radius ** 2", "radius * 2"),
        ("2", "1"),
        ("2", "3"),
    }


@pytest.mark.parametrize(
    ("line", "values"),
    [
        ("x = 2 * (3 + 1) - 1", [-0.5, 3, 3, 5, 5, 6, 8, 9, 9, 9, 11]),  # of 7
        ("x = 8 // 2 % 3", [0, 0, 0, 1, 1, 2, 2, 12]),  # of 1
    ],
)
def test_a_change_keeps_what_stands_around_it(line, values):
    found = []
    for place, node in enumerate(changes.places(ast.parse(line))):
        for changed in changes.changes(node):
            scope: dict = {}
            exec(changes.mutant(Path("x.py"), line.encode(), place, changed).source, scope)
            found.append(scope["x"])
    assert sorted(found) == values


@pytest.fixture
def house(tmp_path):
    """A room with two modules, one of which imports the other, and their tests in folders of their own."""
    files = {
        "physics/deep/base.py": """
            def total(n):
                s = 0
                while n > 0:
                    s, n = s + n, n - 1
                return s

            def unseen():
                return 5
        """,
        "physics/user.py": "from infield.physics.deep.base import total\n\n\ndef twice(n):\n    return 2 * total(n)\n",
        "tests/physics/deep/test_base.py": """
            from infield.physics.deep.base import total

            def test_total():
                assert total(4) == 10
        """,
        "tests/physics/test_user.py": """
            def test_twice():
                from infield.physics.user import twice
                assert twice(4) == 20

            def test_in_a_process():
                import subprocess, sys
                code = "from infield.physics.deep.base import unseen; from infield.core.ground import LEVEL; unseen()"
                subprocess.run([sys.executable, "-c", code], check=True)

            def test_that_fails():
                from infield.core.ground import LEVEL
                assert LEVEL == 2
        """,
        "src/infield/core/ground.py": "LEVEL = 0 + 1\n",
        "tests/test_other.py": "def test_nothing():\n    pass\n",
        "src/infield/__init__.py": "",
        "pyproject.toml": "[tool.pytest.ini_options]\nmarkers = ['slow: slow']\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
    (tmp_path / "src/infield/physics").symlink_to("../../physics")
    return tmp_path


def test_the_nearest_tests_come_first_and_strangers_not_at_all(house):
    nearest = Nearest(house)
    assert list(map(str, nearest.tests_of(Path("physics/deep/base.py")))) == [
        "tests/physics/deep/test_base.py",
        "tests/physics/test_user.py",
    ]
    assert list(map(str, nearest.tests_of(Path("physics/user.py")))) == ["tests/physics/test_user.py"]
    assert list(map(str, nearest.tests_of(Path("src/infield/core/ground.py")))) == ["tests/physics/test_user.py"]


def test_the_seed_decides_and_a_mutant_is_found_again_where_its_line_has_moved_to(house):
    drawn = [changes.mutants(house, "physics", seed, 5) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2] and len({(m.path, m.line, m.before) for m in drawn[0]}) > 2
    every = changes.mutants(house, "physics", 0, 1000)
    assert len(every) == len(changes.mutants(house, "physics", 1, 1000)) > 5
    assert len(changes.mutants(house, "core", 0, 1000)) == 3  # 0, 1, +
    for mutant in every:
        path = house / mutant.path
        source = path.read_text()
        path.write_text("FIRST = 1\n\n" + source)
        found = changes.again(house, mutant.key)
        assert (found.line, found.source) == (mutant.line + 2, b"FIRST = 1\n\n" + mutant.source)
        path.write_text("")
        assert changes.again(house, mutant.key) is None
        path.write_text(source)


def test_probes_change_no_value_and_see_what_is_evaluated(monkeypatch):
    source = """
def f(x, n=1 + 1):
    x += -2 * (3
               + n)
    return x if x > 100 or not x else [x[0:1] for x in ["ab"]][0] == "a"
"""
    numbers: set[int] = set()
    monkeypatch.setattr(builtins, "_reached_", numbers.add, raising=False)
    plain, seen = {}, {}
    exec(source, plain)
    exec(probed(source.encode(), 0), seen)
    nodes = list(map(ast.unparse, changes.places(ast.parse(source))))
    for x in (0, 10, 1000):
        numbers.clear()
        assert plain["f"](x) is seen["f"](x) or plain["f"](x) == seen["f"](x)
        reached = [node for number, node in enumerate(nodes) if number in numbers]
        assert reached.count("1") == (x == 0) and ("not x" in reached) == (x < 1000) and "x > 100" in reached


def test_who_is_noticed_is_killed_an_endless_loop_too_and_who_is_not_survives(house, tmp_path_factory, monkeypatch):
    monkeypatch.setattr(hunt, "START", 1)
    monkeypatch.setattr(hunt, "UNKNOWN", 0.1)
    path = Path("physics/deep/base.py")
    source = (house / path).read_text()

    def mutant(before, after, place=0):
        assert before in source
        changed = source.replace(before, after).encode()
        return changes.Mutant(path, 1, before, before, after, changed, place)

    runner = Runner(sys.executable, house, "")
    kept = tmp_path_factory.mktemp("kept")
    found = Hunt(house, tmp_path_factory.mktemp("scratch"), kept, runner, 5, 60, reach=False)
    assert found.killer(mutant("s + n", "s - n"), 0) == "tests/physics/deep/test_base.py::test_total"
    assert found.killer(mutant("return 5", "return 6"), 2) == ""
    assert found.killer(mutant("n - 1", "n + 1"), 1) == "time limit"
    assert found.killer(mutant("return 5", "return ("), 3) == "an import"
    assert (house / path).read_text() == source == (found.tree / path).read_text()
    assert set(json.loads((kept / "seconds.json").read_text())) == {
        "tests/physics/deep/test_base.py::test_total",
        "tests/physics/test_user.py::test_twice",
        "tests/physics/test_user.py::test_in_a_process",
    }
    assert found.left_out == {"tests/physics/test_user.py::test_that_fails"}

    known = Map(house, tmp_path_factory.mktemp("probed"), kept).of("tests/physics/test_user.py", runner)
    assert {name.rpartition("::")[2]: test.passed for name, test in known.items() if name} == {
        "test_twice": True,
        "test_in_a_process": True,
        "test_that_fails": False,
    }
    nodes = list(map(ast.unparse, changes.places(ast.parse(source))))
    twice, process = (known[f"tests/physics/test_user.py::{name}"] for name in ("test_twice", "test_in_a_process"))
    assert [nodes[i] for i in twice.reached[str(path)]] == ["0", "n > 0", "0", "s + n", "n - 1", "1"]
    assert [nodes[i] for i in process.reached[str(path)]] == ["5"]
    runner.close()


def test_an_equivalent_mutant_needs_an_argument():
    mutant = changes.Mutant(Path("physics/a.py"), 3, "x = 1", "1", "2", b"")
    entry = {"file": "a.py", "code": "x = 1", "before": "1", "after": "2"}
    assert equivalent(mutant, [{**entry, "why": "x is not used"}])
    assert not equivalent(mutant, [{**entry, "why": ""}])
    assert not equivalent(mutant, [{**entry, "after": "3", "why": "x is not used"}])


def test_the_mutants_that_are_argued_are_of_lines_that_there_are():
    paths = [path for room in changes.FOLDERS for path in changes.modules(ROOT, room)]
    for entry in yaml.safe_load(EQUIVALENT.read_text(encoding="utf-8")):
        keys = [{**entry, "path": path, "place": 0} for path in paths if path.name == entry["file"]]
        assert any(equivalent(mutant, [entry]) for key in keys if (mutant := changes.again(ROOT, key))), entry


def test_a_module_that_installs_itself_is_never_changed():
    assert all((ROOT / path).is_file() for path in changes.SPARED)
    assert not changes.SPARED & set(changes.modules(ROOT, "core"))
    assert len(changes.modules(ROOT, "core")) == len(list((ROOT / changes.FOLDERS["core"]).rglob("*.py"))) - 1
