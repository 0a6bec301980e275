"""Running mutants until a test notices them."""

from __future__ import annotations

import json
import os
from pathlib import Path

from .changes import Mutant, copy_tree
from .nearest import Nearest
from .reach import Map, Test
from .runner import Runner

SLOWER, START = 4, 90
"""A mutant may take this many times the unchanged processor time of its tests, and so many seconds more, in
which numba compiles its loops."""


class Hunt:
    """Copies of a tree, one with probes and one for the mutants, and who notices what.

    Arguments:
        root: The tree, which is not changed.
        scratch: Folder for the copies.
        kept: Folder for what is known of the tests; it serves later runs, too.
        runner: Runs the tests.
        files: How many test files of those that import the module are run at most, nearest first. Those that are known
            to reach the place are run besides, wherever they are.
        seconds: Processor time that the tests of one mutant may take in all, as they take it on the unchanged tree.
        reach: Find out first which tests of a file reach which places, by running all of it.
    """

    def __init__(
        self, root: Path, scratch: Path, kept: Path, runner: Runner, files: int, seconds: float, reach: bool
    ) -> None:
        self.root, self.runner, self.files, self.seconds, self.reach = root, runner, files, seconds, reach
        self.map, self.nearest = Map(root, scratch, kept), Nearest(root)
        self.tree = scratch / "mutants"
        copy_tree(root, self.tree)
        self.costs = Costs(kept / "seconds.json")
        self.alone: dict[str, bool] = {}
        self.left_out: set[str] = set()

    def killer(self, mutant: Mutant, number: int) -> str:
        """The test that notices a mutant; where none does, an empty string."""
        path = self.tree / mutant.path
        original, times = path.read_bytes(), path.stat()
        files, without, seconds = self._tests(mutant)
        while files:
            path.write_bytes(mutant.source)
            os.utime(path, (number + 1, number + 1))  # no other version's byte code is taken for this one's
            try:
                limit = START + SLOWER * seconds
                answer = self.runner.run(self.tree, files, without=without, limit=limit, costs=str(self.costs.path))
            finally:
                path.write_bytes(original)
                os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
            if answer["status"] in (0, 5):
                self.costs.learn(answer["costs"])
                return ""
            if answer["status"] < 0:
                return "time limit"
            failed = answer["failed"]
            if not failed:
                broken = [file for file in files if not self._can_be_imported(file)]
                if not broken:
                    return "an import"
                files = [file for file in files if file not in broken]
                continue
            if self._passes_alone(failed):
                return failed
            without.append(failed)
        return ""

    def _passes_alone(self, name: str) -> bool:
        if name not in self.alone:
            answer = self.runner.run(self.tree, [name.partition("::")[0]], only=[name])
            self.alone[name] = answer["status"] == 0
            if not self.alone[name]:
                self.left_out.add(name)
        return self.alone[name]

    def _can_be_imported(self, file: str) -> bool:
        if file not in self.alone:
            self.alone[file] = self.runner.run(self.tree, [file], only=["none"])["status"] == 5
            if not self.alone[file]:
                self.left_out.add(file)
        return self.alone[file]

    def _tests(self, mutant: Mutant) -> tuple[list[str], list[str], float]:
        """Test files, the tests in them that are not to be run, and the processor time of the others."""
        near = list(map(str, self.nearest.tests_of(mutant.path, mutant.around)))
        files, without, total = [], [], 0.0
        for rank, file in enumerate(near):
            if rank >= self.files and not self.map.mapped(file):
                continue
            costs = self.costs.of(file)
            if self.reach or self.map.mapped(file):
                tests = self.map.of(file, self.runner)
                costs = {name: test.seconds for name, test in tests.items() if name}
                self.left_out |= {name for name in costs if not tests[name].passed}
                wanted = _reaching(tests, mutant)
            else:
                wanted = set(costs)
            if costs and not wanted:
                continue
            run, spent = False, 0.0
            for name, cost in sorted(costs.items(), key=lambda item: item[1]):
                if name in wanted and total + spent + cost <= self.seconds:
                    run, spent = True, spent + cost
                else:
                    without.append(name)
            if not costs and total + UNKNOWN <= self.seconds:
                run, spent = True, UNKNOWN
            if run:
                files.append(file)
                total += spent
        return files, without, total


UNKNOWN = 5.0
"""What a test file is taken to cost, in seconds of a processor, before it has run."""


class Costs:
    """Processor time of tests where nothing is changed, or nothing that a test notices."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self.seconds: dict[str, float] = json.loads(path.read_text()) if path.exists() else {}

    def of(self, file: str) -> dict[str, float]:
        return {name: seconds for name, seconds in self.seconds.items() if name.startswith(f"{file}::")}

    def learn(self, found: dict[str, float]) -> None:
        new = {name: seconds for name, seconds in found.items() if name not in self.seconds}
        if new:
            self.seconds |= new
            self.path.write_text(json.dumps(self.seconds, indent=0))


def _reaching(tests: dict[str, Test], mutant: Mutant) -> set[str]:
    """Tests of a file that reach a mutant; all of them where it is reached as the file is imported or set up."""

    def reaches(test: Test) -> bool:
        return mutant.place in test.reached.get(str(mutant.path), ())

    direct = {name for name, test in tests.items() if name and test.passed and reaches(test)}
    if direct or (mutant.in_function and not reaches(tests[""])):
        return direct
    return {name for name, test in tests.items() if name and test.passed}
