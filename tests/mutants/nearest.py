"""The test files that could notice a change of a module, nearest first."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from pathlib import Path

from .changes import FOLDERS, modules


class Nearest:
    """Who imports whom, directly, in a function or through a string."""

    def __init__(self, root: Path) -> None:
        self.root = root
        files = [path for room in FOLDERS for path in modules(root, room)]
        self.tests = tests = sorted(path.relative_to(root) for path in (root / "tests").rglob("*.py"))
        names = {}
        for path in files:
            names[_dotted(path)] = path
        for path in tests:
            parts = path.with_suffix("").parts
            dotted = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            names |= {dotted: path, dotted.removeprefix("tests."): path}
            names.setdefault(parts[-1], path)
        self.importers = defaultdict(set)
        for path in [*files, *tests]:
            for name in _imports(root / path, _package(path)):
                if name in names:
                    self.importers[names[name]].add(path)

    def tests_of(self, module: Path, names: tuple[str, ...] = ()) -> list[Path]:
        """Test files that import a module or lie in the folder of its tests, nearest first.

        That of its name, those that mention most of some names, those of the folder, then by imports in between, the
        same room before others, short files before long ones.
        """
        words = [re.compile(rf"\b{re.escape(name.strip('_'))}\b") for name in names if len(name) > 4]
        distance, nearest = {module: 0}, [module]
        for path in nearest:
            for importer in self.importers[path] - distance.keys():
                distance[importer] = distance[path] + 1
                nearest.append(importer)
        place = module.parts[2:-1] if module.parts[0] == "src" else module.parts[:-1]
        beside = {path for path in self.tests if path.parts[1:-1] == place}  # perhaps through a command alone
        room = next(room for room, folder in FOLDERS.items() if module.is_relative_to(folder))

        def order(path: Path) -> tuple:
            own = path.stem == f"test_{module.stem}" and room in path.parts
            text = (self.root / path).read_text() if room in path.parts else ""
            mentioned = sum(bool(word.search(text)) for word in words)
            size = (self.root / path).stat().st_size
            far = distance.get(path, len(distance))
            return not own, -mentioned, path not in beside, far, room not in path.parts, size, path

        tests = {path for path in distance if path.parts[0] == "tests"} | beside
        return sorted((path for path in tests if path.stem.startswith("test_")), key=order)


def _dotted(path: Path) -> str:
    """Name under which a module of a room is imported."""
    parts = path.with_suffix("").parts
    parts = parts[1:] if parts[0] == "src" else ("infield", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _package(path: Path) -> tuple[str, ...]:
    """The package that a file's relative imports start from."""
    parts = path.parts[:-1]
    return parts if parts[:1] == ("tests",) else parts[1:] if parts[:1] == ("src",) else ("infield", *parts)


def _imports(path: Path, package: tuple[str, ...]) -> set[str]:
    """Names that a module imports at the top, in a function, or through a string."""
    names: set[str] = set()
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
