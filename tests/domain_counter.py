"""Counter of the house's rule of folders: imports from a role folder to a domain's, and circles among modules.

Run it as a program for the figures, with every import named: `python tests/domain_counter.py`.

Every import counts: at the top of a module, in a function, under TYPE_CHECKING, and strings that name a module
(`"infield.x.y"`, `"infield.x.y:Class"`), entry points of `pyproject.toml` among them.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
ROOMS = ("physics", "priors", "posterior", "datasets", "pipelines")
DOMAINS = ("cm21", "mri", "pet", "projection_mapping", "wall_pressure")
NAMES_DOMAINS = "infield.domains"
"""The one module that may name the domains."""


def modules(root: Path = ROOT) -> dict[str, Path]:
    """Every module of the package, by its name."""
    found = {}
    for base in (*(root / room for room in ROOMS), root / "src/infield"):
        prefix = "infield" if base.name == "infield" else f"infield.{base.name}"
        for path in sorted(base.rglob("*.py")):
            inner = path.relative_to(base).with_suffix("").parts
            if prefix == "infield" and inner[0] in ROOMS:
                continue  # the links to the rooms
            parts = inner[:-1] if inner[-1] == "__init__" else inner
            found[".".join((prefix, *parts))] = path
    return found


def package_of(module: str, path: Path) -> str:
    """The package that a module lies in; a package's own module lies in the package."""
    return module if path.name == "__init__.py" else module.rpartition(".")[0]


def domain_of(module: str) -> str | None:
    """The domain that a module belongs to; None for a role folder."""
    return next((part for part in module.split(".") if part in DOMAINS), None)


def imports(source: str, known: set[str], package: str = "infield") -> Iterator[tuple[int, str]]:
    """Line and module of every import of a module of the package, and of every string that names one.

    Arguments:
        source: Text of a module.
        known: Names of the modules of the package.
        package: The package that the module lies in, for relative imports.
    """
    tree, docstrings = ast.parse(source), set()
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            docstrings |= {id(s.value) for s in body if isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from ((node.lineno, name) for name in [_module(alias.name, known)] if name)
        elif isinstance(node, ast.ImportFrom):
            base = _base(node, package)
            named = {_module(f"{base}.{alias.name}", known) for alias in node.names}
            yield from ((node.lineno, name) for name in sorted(filter(None, named)))
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            if re.fullmatch(r"infield(\.\w+)+(:\w+(\.\w+)*)?", node.value):
                name = _module(node.value.partition(":")[0], known)
                if name:
                    yield node.lineno, name


def _base(node: ast.ImportFrom, package: str) -> str:
    parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
    return ".".join([*parents, *filter(None, [node.module])])


def _module(name: str, known: set[str]) -> str | None:
    """The longest part of a dotted name that is a module of the package."""
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        if ".".join(parts[:end]) in known:
            return ".".join(parts[:end])
    return None


def across(root: Path = ROOT) -> list[str]:
    """Imports that the rule forbids, as `file:line importer -> imported`."""
    known = modules(root)
    found = []
    for module, path in known.items():
        own = domain_of(module)
        for line, target in imports(path.read_text(), set(known), package_of(module, path)):
            other = domain_of(target)
            if other is not None and other != own and module != NAMES_DOMAINS:
                found.append(f"{path.relative_to(root)}:{line} {module} -> {target}")
    project = tomllib.loads((root / "pyproject.toml").read_text()).get("project", {})
    for name, value in [
        e for table in (project.get("scripts", {}), *project.get("entry-points", {}).values()) for e in table.items()
    ]:
        target = _module(value.partition(":")[0], set(known))
        if target and domain_of(target):
            found.append(f"pyproject.toml {name} -> {target}")
    return found


def circles(root: Path = ROOT) -> list[list[str]]:
    """Groups of modules that import each other, directly or by way of others."""
    known = modules(root)
    graph = {
        module: {
            target for _, target in imports(path.read_text(), set(known), package_of(module, path)) if target != module
        }
        for module, path in known.items()
    }
    return sorted(sorted(group) for group in _components(graph) if len(group) > 1)


def _components(graph: dict[str, set[str]]) -> list[list[str]]:
    """Strongly connected components, by Tarjan's algorithm (1972)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for other in sorted(graph[node]):
            if other not in index:
                visit(other)
                low[node] = min(low[node], low[other])
            elif other in stack:
                low[node] = min(low[node], index[other])
        if low[node] == index[node]:
            at = stack.index(node)
            found.append(stack[at:])
            del stack[at:]

    sys.setrecursionlimit(max(sys.getrecursionlimit(), 10 * len(graph)))
    for node in graph:
        if node not in index:
            visit(node)
    return found


if __name__ == "__main__":
    crossing, rings = across(), circles()
    print("\n".join(crossing))
    for ring in rings:
        print("circle:", ", ".join(ring))
    print(f"role -> domain imports: {len(crossing)}, circles: {len(rings)}")
