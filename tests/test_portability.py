"""What would read or write other text on another machine."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("physics", "priors", "posterior", "datasets", "pipelines", "src/infield/core")


def text_of_any_encoding(source: str) -> Iterator[str]:
    """Calls that read or write text in the encoding of whatever locale there is."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call) or any(k.arg in ("encoding", None) for k in node.keywords):
            continue
        name = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
        mode = node.args[1] if len(node.args) > 1 else next((k.value for k in node.keywords if k.arg == "mode"), None)
        binary = isinstance(mode, ast.Constant) and "b" in str(mode.value)
        if name in ("read_text", "write_text") or (isinstance(node.func, ast.Name) and name == "open" and not binary):
            yield f"line {node.lineno}: {ast.unparse(node)}"


def test_text_is_utf_8_in_every_locale():
    paths = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    assert len(paths) > 100, "the test looks in the wrong place"
    found = {str(path): list(text_of_any_encoding(path.read_text(encoding="utf-8"))) for path in paths}
    assert {path: calls for path, calls in found.items() if calls} == {}


@pytest.mark.parametrize(
    "source", ["path.read_text()", "path.write_text(words)", "open(path)", "open(path, 'w')", "open(path, mode='r')"]
)
def test_text_without_an_encoding_is_seen(source):
    assert len(list(text_of_any_encoding(source))) == 1


@pytest.mark.parametrize(
    "source", ["path.read_text(encoding='utf-8')", "open(path, 'rb')", "fits.open(path)", "open(path, **how)"]
)
def test_text_with_an_encoding_is_let_through(source):
    assert not list(text_of_any_encoding(source))
