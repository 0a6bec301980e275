"""What is changed: one operator, comparison, number or truth value of a room, drawn by a seed.

Docstrings, messages, annotations, decorators and type unions are left as they are. All places are equally likely.
"""

from __future__ import annotations

import ast
import copy
import random
import shutil
from dataclasses import dataclass
from functools import lru_cache
from itertools import accumulate
from pathlib import Path

FOLDERS = {room: Path(room) for room in ("physics", "priors", "posterior", "datasets", "pipelines")}
FOLDERS = {"core": Path("src/infield/core")} | FOLDERS
"""Rooms, and where they lie in the tree."""

SPARED = {Path("src/infield/core/torchvision_remedy.py")}
"""Never changed: a mutant of its last lines runs `main` whenever it is imported, and `main` copies the file into the
site-packages of the tests' own environment, where every later program would start with the mutant."""

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
        place: Number of the place in the module.
        in_function: Whether it is evaluated when a function is called, not when the module is imported.
        around: Names of the functions and classes around it, or of what is assigned.
    """

    path: Path
    line: int
    code: str
    before: str
    after: str
    source: bytes
    place: int = 0
    in_function: bool = True
    around: tuple[str, ...] = ()

    @property
    def key(self) -> dict[str, str | int]:
        """By which `again` finds it, wherever its line has moved to."""
        return {name: getattr(self, name) for name in ("path", "code", "before", "after", "place")} | {
            "path": str(self.path)
        }

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.before} -> {self.after}    in: {self.code}"


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
    paths = modules(root, room)
    sites = [(path, i) for path in paths for i in range(len(places(ast.parse((root / path).read_bytes()))))]
    chosen = []
    for path, i in generator.sample(sites, min(count, len(sites))):
        source = (root / path).read_bytes()
        node = places(ast.parse(source))[i]
        chosen.append(mutant(path, source, i, generator.choice(changes(node))))
    return chosen


def mutant(path: Path, source: bytes, place: int, changed: ast.AST) -> Mutant:
    """A module with one of its places changed."""
    tree = ast.parse(source)
    node = places(tree)[place]
    begin, end = span(source, node)
    before, after = ast.unparse(node), ast.unparse(changed)
    new = after if isinstance(node, ast.stmt | ast.Constant) else f"({after})"
    mutated = source[:begin] + new.encode() + source[end:]
    ast.parse(mutated)
    code = source.splitlines()[node.lineno - 1].decode().strip()
    around = [n for n in ast.walk(tree) if isinstance(n, ast.stmt) and n.lineno <= node.lineno <= (n.end_lineno or 0)]
    functions = [n for n in around if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    in_function = any(function.body[0].lineno <= node.lineno for function in functions)
    names = [n.name for n in around if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)]
    if not names:
        targets = [n for statement in around for n in ast.walk(statement) if isinstance(n, ast.Name)]
        names = [n.id for n in targets if isinstance(n.ctx, ast.Store)]
    return Mutant(path, node.lineno, code, before, after, mutated, place, in_function, tuple(names))


def again(root: Path, key: dict[str, str | int]) -> Mutant | None:
    """The mutant of a key in the tree of today, None where its line is no longer there."""
    path = Path(str(key["path"]))
    if not (root / path).exists():
        return None
    source = (root / path).read_bytes()
    lines = [line.decode().strip() for line in source.splitlines()]
    found = []
    for place, node in enumerate(places(ast.parse(source))):
        if lines[node.lineno - 1] == key["code"] and ast.unparse(node) == key["before"]:
            for changed in changes(node):
                if ast.unparse(changed) == key["after"]:
                    found.append(mutant(path, source, place, changed))
    return min(found, key=lambda candidate: abs(candidate.place - int(key["place"])), default=None)


def span(source: bytes, node: ast.AST) -> tuple[int, int]:
    """First byte of a node in the source of its module, and the byte behind its last."""
    starts = _starts(source)
    return starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset


@lru_cache(maxsize=4)
def _starts(source: bytes) -> list[int]:
    return [0, *accumulate(map(len, source.splitlines(keepends=True)))]


def modules(root: Path, room: str) -> list[Path]:
    """Modules of a room that may be changed, from the root of the tree."""
    return sorted({path.relative_to(root) for path in (root / FOLDERS[room]).rglob("*.py")} - SPARED)


def copy_tree(root: Path, to: Path) -> None:
    """Copy a tree without its outputs and environments."""

    def left_out(folder: str, names: list[str]) -> set[str]:
        made = {"build", "demo", "runs", "dist"} if Path(folder) == root else set()
        return {name for name in names if name in made or name.startswith(".") or name == "__pycache__"}

    shutil.copytree(root, to, symlinks=True, ignore=left_out)
