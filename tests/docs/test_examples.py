"""The examples of the documentation run: Python of its pages, the domain of `extending`, doctests of docstrings."""

from __future__ import annotations

import ast
import doctest
import importlib
import importlib.util
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import infield
from infield.core import registry
from infield.core.grid import Grid
from infield.physics.operators.registry import build_operator

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("physics", "priors", "posterior", "datasets", "pipelines", "src/infield/core", "src/infield/testing")


def python_blocks(page: str) -> list[str]:
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def test_python_of_the_quick_start(tmp_path, monkeypatch):
    """On the file that `docs/formats.md` writes."""
    monkeypatch.chdir(tmp_path)
    exec(compile(python_blocks("docs/formats.md")[0], "formats.md", "exec"), {})
    (block,) = [block for block in python_blocks("docs/quickstart.md") if "FAPS" in block]
    names: dict = {}
    exec(compile(block.replace("64,", "8,").replace("levels=20", "levels=2"), "quickstart.md", "exec"), names)
    samples = names["posterior"].samples
    assert samples.shape == (8, 1, 32, 48) and torch.isfinite(samples).all()


def test_python_of_the_readme(tmp_path, monkeypatch):
    """A table of 60 observations on a square degree becomes a map in memory."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    lon, lat = rng.uniform(0, 1, (2, 60))
    sst = 15 + np.sin(4 * lon) * np.cos(3 * lat) + 0.1 * rng.standard_normal(60)
    rows = [f"{x:.4f},{y:.4f},{value:.3f}" for x, y, value in zip(lon, lat, sst, strict=True)]
    (tmp_path / "obs.csv").write_text("\n".join(["lon,lat,sst", *rows]), encoding="utf-8")
    (code,) = python_blocks("README.md")
    names: dict = {}
    exec(compile(code.replace("samples=64", "samples=8"), "README.md", "exec"), names)
    posterior = names["posterior"]
    assert posterior.sizes["sample"] == 8 and posterior["mean"].attrs["units"] == "degC"
    assert 13 < float(posterior["mean"].min()) < float(posterior["mean"].max()) < 17


def test_checks_of_the_documentation():
    for block in python_blocks("docs/extending.md"):
        exec(compile(block, "extending.md", "exec"), {})


def unknown_names(source: str) -> list[str]:
    """Names that a piece of code imports from the package and that do not exist."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "infield":
            module = importlib.import_module(str(node.module))
            found += [f"{node.module}.{alias.name}" for alias in node.names if not hasattr(module, alias.name)]
    return found


def test_python_of_all_pages_imports_what_exists():
    pages = [
        path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md") if "generated" not in path.parts
    ]
    blocks = [block for page in ["README.md", *pages] for block in python_blocks(page)]
    assert len(blocks) >= 5
    assert [name for block in blocks for name in unknown_names(block)] == []
    assert unknown_names("from infield.core.grid import Grid, Nothing") == ["infield.core.grid.Nothing"]


@pytest.fixture
def thermography(tmp_path, monkeypatch):
    """The domain of `docs/extending.md`, in its place for one test."""
    import infield.domains
    import infield.physics

    shutil.copytree(ROOT / "docs" / "examples" / "thermography", tmp_path / "thermography")
    monkeypatch.setattr(infield.physics, "__path__", [*infield.physics.__path__, str(tmp_path)])
    monkeypatch.setattr(registry, "DOMAINS", {**infield.domains.DOMAINS, "thermography": "heat seen by cameras"})
    registry._collected.cache_clear()
    yield
    registry._collected.cache_clear()
    for name in [name for name in sys.modules if name.startswith("infield.physics.thermography")]:
        del sys.modules[name]


def test_the_domain_of_the_documentation(thermography):
    description = {"name": "infrared-camera", "parameters": {"bin": 4}}
    camera = build_operator(description, {}, Grid.regular((8, 12), units="m"), 1)
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 1, 8, 12, generator=generator, dtype=torch.float64)
    y = torch.randn(2, 1, 2, 3, generator=generator, dtype=torch.float64)
    torch.testing.assert_close((camera.A(x) * y).sum(), (x * camera.A_adjoint(y)).sum())
    torch.testing.assert_close(camera.A(x)[0, 0, 1, 2], x[0, 0, 4:, 8:].mean())


def test_without_its_line_the_domain_does_not_exist():
    assert not registry.known("operators", "infrared-camera")


def modules_with_doctests() -> list[str]:
    found = []
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            if ">>> " in path.read_text(encoding="utf-8"):
                parts = path.relative_to(ROOT / "src" if room.startswith("src") else ROOT).with_suffix("").parts
                found.append(".".join(parts if parts[0] == "infield" else ("infield", *parts)))
    if ">>> " in (ROOT / "src" / "infield" / "__init__.py").read_text(encoding="utf-8"):
        found.append("infield")
    return found


@pytest.mark.parametrize("name", modules_with_doctests())
def test_doctests(name):
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert result.failed == 0 and result.attempted > 0


def test_there_are_doctests_and_they_can_fail():
    assert len(modules_with_doctests()) >= 4
    test = doctest.DocTestParser().get_doctest(">>> 1 + 1\n3\n", {}, "wrong", None, 0)
    assert doctest.DocTestRunner(verbose=False).run(test, out=lambda text: None).failed == 1


def test_every_module_of_the_api_pages_exists():
    for page in sorted((ROOT / "docs" / "api").glob("*.md")):
        for name in re.findall(r"automodule:: (\S+)", page.read_text(encoding="utf-8")):
            assert importlib.util.find_spec(name), f"{page.name}: no module {name}"
    assert infield.__all__
