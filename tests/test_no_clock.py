"""No test watches the clock: what must be fast is guarded by counts, and limits are there to catch what hangs."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from examples.processes import HANG

TESTS = Path(__file__).resolve().parent
NOTEBOOKS = TESTS.parent / "notebooks"
ONLY_CLOCK = TESTS / "examples" / "processes.py"
"""Waits for processes, with the one limit that there is."""

CLOCKS = {"time", "timeit"}
CALLS = re.compile(r"\b(perf_counter|monotonic|process_time|thread_time|time\.time|timeit|sleep)(_ns)?\(")
SECONDS = re.compile(r"seconds$|^(elapsed|duration|wall_s)$")


def clock_watching(source: str) -> Iterator[str]:
    """What in a test, or in a program that a test holds in a string, looks at a clock, each with its line.

    Seen are: modules of clocks; calls of clocks in strings; a limit (`timeout=`, or a number given to `wait` or
    `join`) that is not HANG or at least as long; and seconds that are compared with anything but zero.
    """
    for node in ast.walk(ast.parse(source)):
        for what in _watched(node):
            yield f"line {getattr(node, 'lineno', 0)}: {what}"


def _watched(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (f"import {alias.name}" for alias in node.names if alias.name in CLOCKS)
    elif isinstance(node, ast.ImportFrom) and not node.level and node.module in CLOCKS:
        yield f"from {node.module} import"
    elif isinstance(node, ast.Constant) and isinstance(node.value, str) and (found := CALLS.search(node.value)):
        yield f"{found[1]} in a string"
    elif isinstance(node, ast.Call):
        limits = [k.value for k in node.keywords if k.arg and k.arg.endswith("timeout")]
        if isinstance(node.func, ast.Attribute) and node.func.attr in ("wait", "join"):
            limits += [a for a in node.args if isinstance(a, ast.Constant) and isinstance(a.value, int | float)]
        yield from (f"a limit of {ast.unparse(limit)}" for limit in limits if not _long(limit))
    elif isinstance(node, ast.Compare):
        ordered = any(isinstance(op, ast.Lt | ast.LtE | ast.Gt | ast.GtE) for op in node.ops)
        operands = [node.left, *node.comparators]
        timed = [any(map(_is_of_seconds, ast.walk(operand))) for operand in operands]
        zero = [isinstance(operand, ast.Constant) and operand.value == 0 for operand in operands]
        sets = [isinstance(operand, ast.Set | ast.SetComp) for operand in operands]  # one holds another
        if ordered and any(timed) and not any(zero) and not any(sets):
            yield f"{ast.unparse(node)}"


def _long(limit: ast.AST) -> bool:
    if isinstance(limit, ast.Constant):
        return limit.value is None or (isinstance(limit.value, int | float) and limit.value >= HANG)
    return isinstance(limit, ast.Name) and limit.id == "HANG"


def _is_of_seconds(node: ast.AST) -> bool:
    name = {ast.Name: "id", ast.Attribute: "attr", ast.Constant: "value"}.get(type(node))
    value = getattr(node, name) if name else None
    return isinstance(value, str) and bool(SECONDS.search(value))


def sources() -> list[Path]:
    found = [*TESTS.rglob("test_*.py"), *TESTS.rglob("conftest.py"), *(TESTS / "examples").rglob("*.py")]
    return sorted({*found} - {ONLY_CLOCK, Path(__file__).resolve()})


def test_no_test_watches_the_clock():
    assert len(sources()) > 100, "the test looks in the wrong place"
    found = {str(path.relative_to(TESTS)): list(clock_watching(path.read_text(encoding="utf-8"))) for path in sources()}
    assert {path: lines for path, lines in found.items() if lines} == {}


def test_no_conclusion_of_a_notebook_depends_on_time():
    """A notebook may print what a draw took; it may not assert it."""
    cells = [
        ("".join(cell["source"]), path.name)
        for path in sorted(NOTEBOOKS.glob("*.ipynb"))
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
        if cell["cell_type"] == "code"
    ]
    claims = [
        (node, name) for code, name in cells for node in ast.walk(ast.parse(code)) if isinstance(node, ast.Assert)
    ]
    assert claims
    assert [(name, ast.unparse(node)) for node, name in claims if list(clock_watching(ast.unparse(node)))] == []


@pytest.mark.parametrize(
    "source",
    [
        "import time",
        "from time import monotonic as now",
        "def test():\n    import timeit",
        "program = 'import time; time.sleep(1)'",
        "code = f'while time.process_time() < {seconds}: pass'",
        "subprocess.run(command, timeout=60)",
        "NotebookClient(notebook, startup_timeout=60)",
        "subprocess.run(command, timeout=limit)",
        "process.wait(120)",
        "thread.join(5.0)",
        "assert min(seconds) < 1.0",
        "assert found['seconds'] <= other",
        "assert 1 < posterior.cost['run_seconds'] < 10",
        "assert elapsed < 2",
    ],
)
def test_a_test_that_watches_the_clock_is_seen(source):
    assert len(list(clock_watching(source))) >= 1


@pytest.mark.parametrize(
    "source",
    [
        "subprocess.run(command, timeout=HANG)",
        "subprocess.run(command, timeout=1200)",
        "process.wait()\nthreading.Event().wait()",
        "names = ', '.join(names)",
        "assert posterior.cost['seconds'] > 0",
        "assert found['seconds'] == 1.5",
        "assert names >= {'psnr', 'seconds'}",
        "assert first < second.mean()\nassert cost['operator_calls'] < 5",
        "monkeypatch.setattr(scaling, 'time', SimpleNamespace(perf_counter=clock))",
        "'''The second derivative; sleep well.'''",
    ],
)
def test_what_counts_or_catches_hangs_is_let_through(source):
    assert list(clock_watching(source)) == []
