"""The mutants of `make mutants`: what is changed and what is not, the tests that are chosen, and a house of toys."""

from __future__ import annotations

import ast
import importlib.util
import sys
import textwrap
from pathlib import Path

import pytest

SPECIFICATION = importlib.util.spec_from_file_location("mutants", Path(__file__).with_name("mutants.py"))
mutants = importlib.util.module_from_spec(SPECIFICATION)
sys.modules["mutants"] = mutants
SPECIFICATION.loader.exec_module(mutants)

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
    for node in mutants.places(ast.parse(source)):
        for changed in mutants.changes(node):
            mutant = mutants._mutant(Path("x.py"), source.encode(), node, changed)
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
    for node in mutants.places(ast.parse(line)):
        for changed in mutants.changes(node):
            scope: dict = {}
            exec(mutants._mutant(Path("x.py"), line.encode(), node, changed).source, scope)
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
        """,
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
    assert list(map(str, mutants.tests_of(house, Path("physics/deep/base.py")))) == [
        "tests/physics/deep/test_base.py",
        "tests/physics/test_user.py",
    ]
    assert list(map(str, mutants.tests_of(house, Path("physics/user.py")))) == ["tests/physics/test_user.py"]


def test_the_seed_decides(house):
    drawn = [mutants.mutants(house, "physics", seed, 5) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2] and len({(m.path, m.line, m.before) for m in drawn[0]}) > 2
    assert len(mutants.mutants(house, "physics", 0, 1000)) == len(mutants.mutants(house, "physics", 1, 1000)) > 5


@pytest.mark.slow
def test_who_is_noticed_is_killed_an_endless_loop_too_and_who_is_not_survives(house, monkeypatch):
    monkeypatch.setattr(mutants, "START", 1)
    monkeypatch.setattr(mutants, "SLOWER", 3)
    path = Path("physics/deep/base.py")
    source = (house / path).read_text()

    def mutant(before, after):
        assert before in source
        return mutants.Mutant(path, 1, before, before, after, source.replace(before, after).encode())

    trees = mutants.Trees(house, sys.executable, 1)
    assert trees.killer(mutant("s + n", "s - n"), 0, 5) == "tests/physics/deep/test_base.py"
    assert trees.killer(mutant("n - 1", "n + 1"), 1, 5) == "tests/physics/deep/test_base.py, time limit"
    assert trees.killer(mutant("return 5", "return 6"), 2, 5) is None
    assert trees.killer(mutant("return 5", "return ("), 3, 5) == "tests/physics/deep/test_base.py"
    assert (house / path).read_text() == source == (trees.where / "0" / path).read_text()
    assert set(trees.seconds) == {"tests/physics/deep/test_base.py", "tests/physics/test_user.py"}


def test_an_equivalent_mutant_needs_an_argument():
    mutant = mutants.Mutant(Path("physics/a.py"), 3, "x = 1", "1", "2", b"")
    entry = {"file": "a.py", "code": "x = 1", "before": "1", "after": "2"}
    assert mutants.equivalent(mutant, [{**entry, "why": "x is not used"}])
    assert not mutants.equivalent(mutant, [{**entry, "why": ""}])
    assert not mutants.equivalent(mutant, [{**entry, "after": "3", "why": "x is not used"}])
