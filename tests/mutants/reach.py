"""Which tests reach which place of the code, found by running them once on a tree with a probe at every place."""

from __future__ import annotations

import ast
import hashlib
import json
import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from .changes import FOLDERS, copy_tree, modules, places, span
from .runner import Runner

SITE = """import sys
sys.path.append({folder!r})
import probe
"""


def probed(source: bytes, first: int) -> bytes:
    """A module with a probe at every place; the places are numbered from `first`."""
    inserted = []
    for number, node in enumerate(places(ast.parse(source)), first):
        begin, end = span(source, node)
        if isinstance(node, ast.stmt):
            inserted.append((begin, 0, number, f"_reached_({number}); "))
        else:  # of two that begin or end together the inner one is the later one
            inserted += [(begin, 1, number, f"(_reached_({number}) or ("), (end, -1, -number, "))")]
    pieces, at = [], 0
    for position, _, _, text in sorted(inserted):
        pieces += [source[at:position], text.encode()]
        at = position
    return b"".join([*pieces, source[at:]])


@dataclass
class Test:
    """What is known of a test on the unchanged tree."""

    seconds: float = 0.0
    passed: bool = True
    reached: dict[str, list[int]] = field(default_factory=dict)
    """Places by module, counted from its beginning."""


class Map:
    """What the tests of each test file reach, made when it is first asked for and kept in a folder.

    Arguments:
        root: Tree that is not changed.
        tree: Folder for its probed copy.
        kept: Folder for what is known, under digests of the test files.
    """

    def __init__(self, root: Path, tree: Path, kept: Path) -> None:
        self.root, self.tree, self.kept = root, tree / "probed", kept
        self.site, self.records = tree / "site", tree / "records"
        self.numbers: list[tuple[str, int]] = []
        self.digests = {str(path): digest(root / path) for room in FOLDERS for path in modules(root, room)}
        self.known: dict[str, dict[str, Test]] = {}

    def _probe(self) -> None:
        copy_tree(self.root, self.tree)
        for path in self.digests:
            source = (self.root / path).read_bytes()
            (self.tree / path).write_bytes(probed(source, len(self.numbers)))
            self.numbers += [(path, i) for i in range(len(places(ast.parse(source))))]
        self.site.mkdir()
        here = Path(__file__).parent
        (self.site / "sitecustomize.py").write_text(SITE.format(folder=str(here)))

    def _path(self, test: str) -> Path:
        return self.kept / f"{test.replace('/', '.')}.{digest(self.root / test)}.json"

    def mapped(self, test: str) -> bool:
        """Whether a test file was run."""
        return test in self.known or self._path(test).exists()

    def of(self, test: str, runner: Runner) -> dict[str, Test]:
        """The tests of a file by name; places of modules that changed since are not in it."""
        if test not in self.known:
            if not self._path(test).exists():
                self._run(test, runner)
            stored = json.loads(self._path(test).read_text())
            same = {path for path, found in stored["modules"].items() if self.digests.get(path) == found}
            self.known[test] = {
                name: Test(seconds, passed, {path: numbers for path, numbers in reached.items() if path in same})
                for name, (seconds, passed, reached) in stored["tests"].items()
            }
        return self.known[test]

    def _run(self, test: str, runner: Runner) -> None:
        if not self.tree.exists():
            self._probe()
        shutil.rmtree(self.records, ignore_errors=True)
        self.records.mkdir()
        runner.run(self.tree, [test], records=str(self.records), site=str(self.site))
        tests: dict[str, Test] = {}
        everybody = Test()
        for path in self.records.iterdir():
            for line in path.read_text().splitlines():
                name, phase, outcome, seconds, numbers = line.split("\t")
                found = tests.setdefault(name, Test()) if name else everybody
                found.seconds += float(seconds)
                found.passed &= outcome == "passed"
                for target in (found, everybody) if phase == "setup" else (found,):  # perhaps a fixture of the file
                    for number in map(int, filter(None, numbers.split(","))):
                        module, place = self.numbers[number]
                        target.reached.setdefault(module, []).append(place)
        stored: dict[str, Any] = {"modules": {}, "tests": {}}
        for name, found in {**tests, "": everybody}.items():
            reached = {module: sorted(set(numbers)) for module, numbers in found.reached.items()}
            stored["modules"] |= {module: self.digests[module] for module in reached}
            stored["tests"][name] = [round(found.seconds, 3), found.passed, reached]
        self.kept.mkdir(parents=True, exist_ok=True)
        self._path(test).write_text(json.dumps(stored, separators=(",", ":")))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
