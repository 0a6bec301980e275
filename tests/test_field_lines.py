"""Each line of issue 20 has the tests that hold its right value, and they carry the marker `field`."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from examples.field_lines import TABLES_OF_THE_ISSUE

TESTS = Path(__file__).parent
LINES = {f"{table}: {line}": tests for table, lines in TABLES_OF_THE_ISSUE.items() for line, tests in lines.items()}


def field_tests(code: str) -> set[str]:
    """Functions of a module with the marker `field`: their own, or the module's."""
    tree = ast.parse(code)
    whole = any(isinstance(n, ast.Assign) and "pytestmark = pytest.mark.field" == ast.unparse(n) for n in tree.body)
    functions = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name.startswith("test_")]
    own = {n.name for n in functions if any("pytest.mark.field" in ast.unparse(d) for d in n.decorator_list)}
    return {n.name for n in functions} if whole else own


@pytest.mark.parametrize("line", LINES)
def test_a_line_has_its_tests(line):
    assert LINES[line], "no test"
    for file, names in LINES[line].items():
        missing = set(names) - field_tests((TESTS / file).read_text(encoding="utf-8"))
        assert not missing, f"{file}: no test with the marker field: {sorted(missing)}"


def test_a_test_without_the_marker_is_seen():
    assert field_tests("def test_a(): ...") == set()
    assert field_tests("@pytest.mark.field\ndef test_a(): ...\ndef test_b(): ...") == {"test_a"}
    assert field_tests("pytestmark = pytest.mark.field\ndef test_b(): ...") == {"test_b"}
