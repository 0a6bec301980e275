"""JSON that every program reads, and where the commands' JSON comes from."""

import json
import re
from pathlib import Path

import pytest

import infield
from infield.core.json_text import to_json

ROOMS = Path(infield.__file__).resolve().parent


def test_numbers_that_are_not_finite_become_null():
    value = {"a": [1.5, float("nan"), (float("inf"), -float("inf"))], "b": {"c": float("nan"), "d": "NaN"}}
    text = to_json(value)
    strict = json.loads(text, parse_constant=lambda constant: pytest.fail(f"{constant} is no JSON"))
    assert strict == {"a": [1.5, None, [None, None]], "b": {"c": None, "d": "NaN"}}
    assert "NaN," in json.dumps(value)  # negative control


def test_no_command_prints_json_of_another_kind():
    """Every JSON object on standard output goes through `to_json`."""
    printed = re.compile(r"print\(\s*(json\.dumps|to_json)\(")
    found = [
        (path.name, name)
        for path in (ROOMS / "pipelines").rglob("*.py")
        for name in printed.findall(path.read_text(encoding="utf-8"))
    ]
    assert len(found) > 15
    own_children = {"memory.py", "growth.py", "large.py"}  # processes of a bench, read by that bench
    assert {name for name, how in found if how == "json.dumps"} <= own_children
