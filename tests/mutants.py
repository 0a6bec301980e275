"""Random mutants of a room, and those that no test notices: `make mutants ROOM=posterior SEED=0 N=40`.

A mutant is the code with one operator, comparison, number or truth value changed. Docstrings, messages, annotations,
decorators and type unions are left as they are. N places are drawn by the seed, all equally likely, and a change at
each.

Each mutant is run in a copy of the tree with the tests that import its module, directly or through others, nearest
first: the test file of the same name, then by imports in between, the same room before others, short files before long
ones. At most `--files` test files are run, until one fails: who survives more could still be noticed by one further
away, but nobody is called killed who is not. A test file counts only if it passes on the unchanged tree. A mutant that
takes several times the processor time of the unchanged code (an endless loop) is killed.

`equivalent_mutants.yaml` beside this file argues, one by one, which mutants are the same program.

A module of our own because cosmic-ray runs one fixed test command for every mutant of every module and neither it nor
mutmut draws a number of mutants by a seed; all mutants of a room with all of its tests would take weeks.
"""

from __future__ import annotations

import argparse
import ast
import copy
import hashlib
import json
import os
import queue
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("core", "physics", "priors", "posterior", "datasets", "pipelines")
EQUIVALENT = Path(__file__).with_name("equivalent_mutants.yaml")
ALLOWED = 0.03
"""Share of survivors from which on the command fails."""

SLOWER, START = 5, 60
"""A mutant may take this many times the unchanged processor time of a test file, and so many seconds more."""

HANGS = 3600
"""Seconds after which a test file that does not even compute is ended."""

OPERATORS = {
    ast.Add: [ast.Sub],
    ast.Sub: [ast.Add],
    ast.Mult: [ast.Div],
    ast.Div: [ast.Mult],
    ast.FloorDiv: [ast.Mult],
    ast.Mod: [ast.Mult],
    ast.Pow: [ast.Mult],
    ast.BitAnd: [ast.BitOr],
    ast.BitOr: [ast.BitAnd],
}
COMPARISONS = {
    ast.Lt: [ast.LtE, ast.GtE],
    ast.LtE: [ast.Lt, ast.Gt],
    ast.Gt: [ast.GtE, ast.LtE],
    ast.GtE: [ast.Gt, ast.Lt],
    ast.Eq: [ast.NotEq],
    ast.NotEq: [ast.Eq],
    ast.Is: [ast.IsNot],
    ast.IsNot: [ast.Is],
    ast.In: [ast.NotIn],
    ast.NotIn: [ast.In],
}


@dataclass(frozen=True)
class Mutant:
    """A module with one change.

    Arguments:
        path: Of the module, from the root of the tree.
        line: Number of the changed line.
        code: Text of that line.
        before, after: The expression.
        source: The whole mutated module.
    """

    path: Path
    line: int
    code: str
    before: str
    after: str
    source: bytes

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.before} -> {self.after}    in: {self.code}"


# --- mutants ---


def places(node: ast.AST, inside_function: bool = False) -> list[ast.AST]:
    """Nodes that can be changed, in the order of the source."""
    found = [node] if changes(node, inside_function) else []
    inside_function = inside_function or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
    if isinstance(node, ast.JoinedStr):  # messages
        return []
    for name, value in ast.iter_fields(node):
        types = name in ("annotation", "returns", "decorator_list", "type_params")
        if isinstance(node, ast.Call) and getattr(node.func, "id", None) in ("isinstance", "issubclass", "cast"):
            types = types or name == "args"
        if isinstance(node, ast.ClassDef) and name in ("bases", "keywords"):
            types = True
        if types:
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not isinstance(child, ast.pattern):
                found += places(child, inside_function)
    return found


def changes(node: ast.AST, inside_function: bool = True) -> list[ast.AST]:
    """What a node can be changed into."""
    if isinstance(node, ast.BinOp):
        text = any(isinstance(n, ast.JoinedStr) or isinstance(getattr(n, "value", None), str) for n in _operands(node))
        union = isinstance(node.op, ast.BitOr) and not inside_function
        return [] if text or union else _with(node, op=[kind() for kind in OPERATORS.get(type(node.op), [])])
    if isinstance(node, ast.AugAssign):
        return _with(node, op=[kind() for kind in OPERATORS.get(type(node.op), [])])
    if isinstance(node, ast.Compare):
        first, *others = node.ops
        return _with(node, ops=[[kind(), *others] for kind in COMPARISONS[type(first)]])
    if isinstance(node, ast.BoolOp):
        return _with(node, op=[ast.Or() if isinstance(node.op, ast.And) else ast.And()])
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        return [node.operand]
    if isinstance(node, ast.Constant) and isinstance(node.value, bool):
        return _with(node, value=[not node.value])
    if isinstance(node, ast.Constant) and isinstance(node.value, int):
        return _with(node, value=[node.value + 1, *([node.value - 1] if node.value > 0 else [])])
    if isinstance(node, ast.Constant) and isinstance(node.value, float):
        return _with(node, value=[2 * node.value, node.value / 2] if node.value else [1.0])
    return []


def _operands(node: ast.BinOp) -> tuple[ast.expr, ast.expr]:
    return node.left, node.right


def _with(node: ast.AST, **values: list) -> list[ast.AST]:
    ((name, alternatives),) = values.items()
    changed = []
    for value in alternatives:
        other = copy.deepcopy(node)
        setattr(other, name, value)
        changed.append(other)
    return changed


def mutants(root: Path, room: str, seed: int, count: int) -> list[Mutant]:
    """`count` mutants of a room at different places, or as many as there are."""
    generator = random.Random(f"{room} {seed}")
    paths = sorted(path.relative_to(root) for path in (root / room).rglob("*.py"))
    sites = [(path, i) for path in paths for i in range(len(places(ast.parse((root / path).read_bytes()))))]
    chosen = []
    for path, i in generator.sample(sites, min(count, len(sites))):
        source = (root / path).read_bytes()
        node = places(ast.parse(source))[i]
        chosen.append(_mutant(path, source, node, generator.choice(changes(node))))
    return chosen


def _mutant(path: Path, source: bytes, node: ast.AST, changed: ast.AST) -> Mutant:
    lines = source.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line))
    begin = starts[node.lineno - 1] + node.col_offset  # offsets count bytes
    end = starts[node.end_lineno - 1] + node.end_col_offset
    before, after = ast.unparse(node), ast.unparse(changed)
    new = after if isinstance(node, ast.stmt | ast.Constant) else f"({after})"
    mutated = source[:begin] + new.encode() + source[end:]
    ast.parse(mutated)
    return Mutant(path, node.lineno, lines[node.lineno - 1].decode().strip(), before, after, mutated)


# --- the tests that could notice ---


def tests_of(root: Path, module: Path) -> list[Path]:
    """Test files that import a module, nearest first, from the root of the tree."""
    files = [path for room in (*ROOMS, "tests") for path in sorted((root / room).rglob("*.py"))]
    names = {}
    for path in files:
        parts = path.relative_to(root).with_suffix("").parts
        dotted = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        if parts[0] == "tests":
            names |= {dotted: path, dotted.removeprefix("tests."): path}
            names.setdefault(parts[-1], path)
        else:
            names[f"infield.{dotted}"] = path
    importers = defaultdict(set)
    for path in files:
        for name in _imports(path, root):
            if name in names:
                importers[names[name]].add(path)
    distance, nearest = {root / module: 0}, [root / module]
    for path in nearest:
        for importer in importers[path] - distance.keys():
            distance[importer] = distance[path] + 1
            nearest.append(importer)
    room = module.parts[0]

    def order(path: Path) -> tuple:
        own = path.stem == f"test_{module.stem}" and room in path.parts
        return not own, distance[path], room not in path.relative_to(root).parts, path.stat().st_size, path

    tests = [path for path in distance if path.stem.startswith("test_") and path.is_relative_to(root / "tests")]
    return [path.relative_to(root) for path in sorted(tests, key=order)]


def _imports(path: Path, root: Path) -> set[str]:
    """Names that a module imports at the top, in a function, or through a string."""
    names: set[str] = set()
    parts = path.relative_to(root).parts[:-1]
    package = parts if parts[:1] == ("tests",) else ("infield", *parts)
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package[: len(package) - node.level + 1] if node.level else ()
            base = ".".join([*parents, *filter(None, [node.module])])
            names |= {base} | {f"{base}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if match := re.fullmatch(r"(infield(?:\.\w+)+)(?::\w+)?", node.value):
                names |= {match[1], match[1].rpartition(".")[0]}
    return names


# --- running them ---


class Trees:
    """Copies of the tree, one a process, and what each test file takes where nothing is changed."""

    def __init__(self, root: Path, python: str, processes: int) -> None:
        self.root, self.python = root, python
        self.where = Path(tempfile.mkdtemp(prefix="mutants-"))
        self.free: queue.Queue[Path] = queue.Queue()
        for i in range(processes):
            _copy(root, self.where / str(i))
            self.free.put(self.where / str(i))
        self._lock, self._locks = threading.Lock(), defaultdict(threading.Lock)
        files = sorted(path for room in (*ROOMS, "tests") for path in (root / room).rglob("*.py"))
        digest = hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:16]
        self._cache = root / "build" / "mutants" / f"{digest}.json"
        self.seconds: dict[str, float | None] = {}
        if self._cache.exists():
            self.seconds = json.loads(self._cache.read_text())

    def unchanged(self, tree: Path, test: Path) -> float | None:
        """Processor time of a test file on the unchanged tree, in seconds; None where it has no test or fails."""
        with self._locks[test]:
            if str(test) not in self.seconds:
                status, seconds = self.run(tree, test, None)
                with self._lock:
                    self.seconds[str(test)] = seconds if status == 0 else None
                    self._cache.parent.mkdir(parents=True, exist_ok=True)
                    self._cache.write_text(json.dumps(self.seconds))
            return self.seconds[str(test)]

    def run(self, tree: Path, test: Path, limit: float | None) -> tuple[int, float]:
        """Exit status of a test file, 0 if all pass, and its processor time."""
        command = [self.python, "-m", "pytest", "-x", "-q", "-m", "not slow", "-p", "no:cacheprovider", str(test)]
        if limit is not None:
            command = ["sh", "-c", f'ulimit -t {int(limit)}; exec "$@"', "sh", *command]
        environment = {**os.environ, "PYTHONPATH": str(tree / "src"), "OMP_NUM_THREADS": "1"}
        process = subprocess.Popen(
            command,
            cwd=tree,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        hanging = threading.Timer(HANGS, os.killpg, (process.pid, signal.SIGKILL))
        hanging.start()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        hanging.cancel()
        return process.returncode, usage.ru_utime + usage.ru_stime

    def killer(self, mutant: Mutant, number: int, files: int) -> str | None:
        """The test file that notices a mutant, None if none of the nearest does."""
        tree = self.free.get()
        path = tree / mutant.path
        original, times = path.read_bytes(), path.stat()
        try:
            run = 0
            for test in tests_of(self.root, mutant.path):
                seconds = self.unchanged(tree, test)
                if seconds is None:
                    continue
                path.write_bytes(mutant.source)
                os.utime(path, (number + 1, number + 1))  # no other version's byte code is taken for this one's
                status, _ = self.run(tree, test, START + SLOWER * seconds)
                path.write_bytes(original)
                os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
                if status:
                    return f"{test}" if status > 0 and status < 128 else f"{test}, time limit"
                run += 1
                if run == files:
                    break
            return None
        finally:
            path.write_bytes(original)
            os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
            self.free.put(tree)


def _copy(root: Path, to: Path) -> None:
    def left_out(folder: str, names: list[str]) -> set[str]:
        made = {"build", "demo", "runs"} if Path(folder) == root else set()
        return {name for name in names if name in made or name.startswith(".") or name == "__pycache__"}

    shutil.copytree(root, to, symlinks=True, ignore=left_out)


def equivalent(mutant: Mutant, argued: list[dict[str, str]]) -> bool:
    """Whether a mutant is in the list of those that are the same program; the file's folder does not count."""
    key = {"file": mutant.path.name, "code": mutant.code, "before": mutant.before, "after": mutant.after}
    return any(entry.get("why") and {name: entry[name] for name in key} == key for entry in argued)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0], allow_abbrev=False)
    parser.add_argument("room", choices=ROOMS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--count", type=int, default=40, help="mutants that are drawn")
    parser.add_argument("--files", type=int, default=10, help="test files a mutant is run with at most")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--python", default=sys.executable, help="interpreter of the tests")
    parser.add_argument("--only", default="", help="only the mutants of modules whose path holds this")
    parser.add_argument("--list", action="store_true", help="list the mutants and run none")
    asked = parser.parse_args()
    drawn = mutants(ROOT, asked.room, asked.seed, asked.count)
    drawn = [mutant for mutant in drawn if asked.only in str(mutant.path)]
    if asked.list:
        print(*drawn, sep="\n")
        return 0
    argued = yaml.safe_load(EQUIVALENT.read_text(encoding="utf-8")) or []
    trees = Trees(ROOT, asked.python, asked.processes)
    survivors, same = [], 0
    try:
        with ThreadPoolExecutor(asked.processes) as pool:
            found = pool.map(lambda i: trees.killer(drawn[i], i, asked.files), range(len(drawn)))
            for mutant, killer in zip(drawn, found, strict=True):
                print(f"{'killed  ' if killer else 'SURVIVED'} {mutant}" + (f"    by {killer}" if killer else ""))
                sys.stdout.flush()
                if not killer and equivalent(mutant, argued):
                    same += 1
                elif not killer:
                    survivors.append(mutant)
    finally:
        shutil.rmtree(trees.where)
    failing = [test for test, seconds in trees.seconds.items() if seconds is None]
    print(f"\ntest files without a test, or that fail on the unchanged tree, and were left out: {failing or 'none'}")
    print("survivors:", *(survivors or ["none"]), sep="\n  ")
    killed = len(drawn) - len(survivors) - same
    print(
        f"{asked.room}, seed {asked.seed}: {len(drawn)} mutants, {killed} killed, {same} argued equivalent, "
        f"{len(survivors)} survived"
    )
    return int(len(survivors) >= ALLOWED * len(drawn))


if __name__ == "__main__":
    sys.exit(main())
