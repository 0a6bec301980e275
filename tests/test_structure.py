"""The house: imports point one way, importing is cheap, and torchvision is mended only where it is broken."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import textwrap
from inspect import signature
from pathlib import Path

import pytest
from examples.processes import HANG

from infield.core import registry

ROOT = Path(__file__).resolve().parents[1]
MAY_IMPORT = {
    "core": set(),
    "physics": {"core"},
    "priors": {"core"},
    "posterior": {"core", "physics", "priors"},
    "datasets": {"core", "physics"},
    "pipelines": {"core", "physics", "priors", "posterior", "datasets"},
}


def rooms_imported(source: str, package: str) -> set[str]:
    """Rooms that a module imports in any way: absolute or relative, at the top, in a function or through a string.

    `package` is the dotted name of the package that the module lies in, e.g. `infield.physics`.
    """
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            parents = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*parents, *filter(None, [node.module])])
            names |= {base} | {f"{base}.{alias.name}" for alias in node.names}
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            if re.fullmatch(r"infield\.\w+(\.\w+)*", node.value):  # what importlib would be given
                names.add(node.value)
    parts = [name.split(".") for name in names]
    plain = {p[0] for p in parts if p[0] in MAY_IMPORT and p[0] != "datasets"}  # `datasets` alone is Hugging Face's
    return {p[1] for p in parts if p[0] == "infield" and len(p) > 1 and p[1] in MAY_IMPORT} | plain


def violations(room: str, source: str, package: str | None = None) -> set[str]:
    return rooms_imported(source, package or f"infield.{room}") - MAY_IMPORT[room] - {room}


FOLDER = {room: ROOT / room for room in MAY_IMPORT} | {"core": ROOT / "src" / "infield" / "core"}


def modules(room: str) -> list[Path]:
    return sorted(FOLDER[room].rglob("*.py"))


@pytest.mark.parametrize("room", MAY_IMPORT)
def test_imports_point_one_way(room):
    assert modules(room), "the room is empty: the test looks in the wrong place"
    for path in modules(room):
        package = ".".join(["infield", *path.relative_to(FOLDER[room].parent).parts[:-1]])
        found = violations(room, path.read_text(encoding="utf-8"), package)
        assert not found, f"{path.relative_to(ROOT)} imports {sorted(found)}"


@pytest.mark.parametrize(
    ("room", "source", "wrong"),
    [
        ("physics", "import infield.priors.covariance.modes", "priors"),
        ("physics", "from infield.priors import modes", "priors"),
        ("physics", "from infield import posterior", "posterior"),
        ("physics", "from ..priors.modes import Hartley", "priors"),
        ("physics", "from .. import datasets", "datasets"),
        ("physics", "def f():\n    import infield.pipelines.cli", "pipelines"),
        ("physics", "import importlib\nimportlib.import_module('infield.datasets.mri.convert')", "datasets"),
        ("priors", "from infield.physics.measurement import Measurement", "physics"),
        ("datasets", "from infield.priors.base import Prior", "priors"),
        ("datasets", "from infield.posterior.samplers.faps import FAPS", "posterior"),
        ("posterior", "from infield.datasets.formats.measurement import open_measurement", "datasets"),
        ("posterior", "if True:\n    from ..pipelines import cli", "pipelines"),
        ("physics", "import priors.modes", "priors"),
        ("core", "from infield.physics.measurement import Measurement", "physics"),
    ],
)
def test_a_wrong_import_is_seen(room, source, wrong):
    assert violations(room, source) == {wrong}


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("posterior", "from infield.physics.measurement import Measurement\nfrom ..priors.prior import Prior"),
        ("datasets", "from infield.core.grid import Grid\nfrom infield import InfieldError"),
        ("datasets", "from .zarr_group import open_group\nimport datasets"),
        ("physics", "from .grid import Grid\nfrom . import noise"),
        ("priors", '"""As `infield.core.grid` has it."""\nimport torch'),
    ],
)
def test_a_right_import_is_let_through(room, source):
    assert violations(room, source) == set()


def modules_imported(source: str) -> set[str]:
    """First names of what a module imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


BEHIND = {"deepinv": "_deepinv.py", "lightning": "_lightning.py"}
"""Packages that import torchvision, and the module of `core` that imports them after it was mended."""


def test_what_needs_torchvision_is_imported_behind_its_remedy():
    for path in (path for room in MAY_IMPORT for path in modules(room)):
        body = ast.parse(path.read_text(encoding="utf-8")).body
        at_once = "\n".join(ast.unparse(node) for node in body if isinstance(node, ast.Import | ast.ImportFrom))
        for package in set(BEHIND) & modules_imported(at_once):
            assert path == FOLDER["core"] / BEHIND[package], f"{path.relative_to(ROOT)} imports {package}"
    assert modules_imported("import deepinv.physics") == {"deepinv"}


def test_the_ground_floor_stands_on_arrays_and_tensors():
    allowed = {"__future__", "torch", "numpy", "scipy", "infield", *BEHIND, *sys.stdlib_module_names}
    for path in modules("core"):
        assert modules_imported(path.read_text(encoding="utf-8")) <= allowed, path
    assert not modules_imported("import xarray") <= allowed


def test_relative_imports_of_nested_packages_are_resolved():
    source = "from ...datasets import mri"
    assert rooms_imported(source, "infield.pipelines.bench") == {"datasets"}
    assert violations("physics", source, "infield.physics.bench") == {"datasets"}


def stray_quotes(source: str) -> list[int]:
    """Lines of docstrings that end with a quotation mark which the next line opens again: a broken string."""
    lines, found = source.split("\n"), []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            span = range(node.lineno - 1, (node.end_lineno or node.lineno) - 1)
            found += [i + 1 for i in span if lines[i].endswith(' "') and lines[i + 1].lstrip().startswith('"')]
    return found


def test_docstrings_hold_no_stray_quotes():
    broken = '"""One line that was "\n"broken as a string."""'
    assert stray_quotes(broken) == [1] and not stray_quotes('"""A "word" here\nand there."""')
    for path in [*(path for room in MAY_IMPORT for path in modules(room)), *(ROOT / "tests").rglob("*.py")]:
        assert not stray_quotes(path.read_text(encoding="utf-8")), path.relative_to(ROOT)


def fresh(code: str) -> str:
    """Standard output of a program in a fresh interpreter, outside the repository."""
    run = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        cwd="/",
        timeout=HANG,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return run.stdout


MOST_MODULES, MOST_OWN_MODULES = 200, 40
"""What a cheap import may load: 114 and 3 modules were counted for `--help`, 1100 for torch alone."""


def loaded_by(code: str) -> tuple[set[str], str]:
    """The modules that a program loads in a fresh interpreter, and its standard output."""
    lines = fresh(
        "import sys\nbefore = set(sys.modules)\n"
        + textwrap.dedent(code)
        + "\nprint(*sorted(set(sys.modules) - before))"
    ).splitlines()
    return set(lines[-1].split()), "\n".join(lines[:-1])


def too_much(loaded: set[str]) -> str:
    """What of some modules makes an import dear; nothing where it is cheap."""
    foreign = {m for m in loaded if m.split(".")[0] not in {"infield", *sys.stdlib_module_names}}
    own = {m for m in loaded if m.split(".")[0] == "infield"}
    if foreign:
        return f"packages of others: {sorted(foreign)[:5]}"
    if len(own) > MOST_OWN_MODULES or len(loaded) > MOST_MODULES:
        return f"{len(own)} modules of ours, {len(loaded)} in all"
    return ""


def test_import_loads_few_modules_and_nothing_heavy():
    loaded, _ = loaded_by("import infield")
    assert "infield" in loaded and not too_much(loaded)


def test_help_loads_few_modules_and_nothing_heavy():
    loaded, said = loaded_by('from infield.pipelines.cli import main\nassert main(["--help"]) == 0')
    assert "usage: infield VERB" in said and "infield.pipelines.cli" in loaded and not too_much(loaded)


GROUPS = {"convert": "converters", "simulate": "simulators", "bench": "benches"}
"""Commands with commands of their own, and the group of the registry that names them."""


def every_help() -> list[list[str]]:
    """The words of every parser of the command line."""
    commands = [[verb] for verb in registry.names("commands")]
    return commands + [[verb, name] for verb, group in GROUPS.items() for name in registry.names(group)]


HELP = """
import contextlib, io, json, sys
from infield.pipelines.cli import main
{first}
plain = set(sys.modules)
for words in {words}:
    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        assert main(words + ["--help"]) == 0
    print(json.dumps([words, sorted(set(sys.modules) - plain), text.getvalue()]))
    for name in set(sys.modules) - plain:
        del sys.modules[name]
"""


def heavy_helps(words: list[list[str]], first: str = "") -> dict[str, str]:
    """Commands whose help imports too much, and what; each is printed as if it were the first of its process."""
    lines = fresh(HELP.format(first=first, words=words)).splitlines()
    assert len(lines) == len(words)
    found = {}
    for said, loaded, text in map(json.loads, lines):
        assert f"usage: infield {' '.join(said)}" in text and "-h, --help" in text
        if too_much(set(loaded)):
            found[" ".join(said)] = too_much(set(loaded))
    return found


def test_help_of_every_command_loads_nothing_heavy():
    words = every_help()
    assert len(words) > 45 and ["fit"] in words and ["convert", "mri"] in words and ["bench", "kriging"] in words
    assert heavy_helps(words) == {}


def test_a_heavy_help_is_seen():
    dear = (
        "import infield.pipelines.commands.demo_options as demo\n"
        "demo.add_arguments = lambda parser: __import__('numpy')"
    )
    assert list(heavy_helps([["list"], ["demo"], ["cite"]], dear)) == ["demo"]


def test_choices_that_options_repeat_are_those_of_the_heavy_modules():
    from dataclasses import fields

    from infield.datasets.mri import masks
    from infield.datasets.mri.readers import arrays
    from infield.datasets.pet.amyloid_law import AmyloidLaw
    from infield.datasets.pet.scanner import Scanner
    from infield.datasets.projection_mapping import surfaces
    from infield.datasets.wall_pressure import plane_file
    from infield.datasets.wall_pressure.readers import jhtdb
    from infield.physics.cm21 import telescopes
    from infield.physics.wall_pressure import wall_units
    from infield.physics.wall_pressure.channel import boxes, solver
    from infield.pipelines.bench import trust, trust_options
    from infield.pipelines.bench.kriging import run as kriging
    from infield.pipelines.bench.kriging import run_options as kriging_options
    from infield.pipelines.cm21 import infer, infer_options, observe_options
    from infield.pipelines.commands import simulate_options as fields_options
    from infield.pipelines.mri import convert_options as mri_options
    from infield.pipelines.mri.bench import trust as mri_trust
    from infield.pipelines.mri.bench import trust_options as mri_trust_options
    from infield.pipelines.pet import simulate_options as pet_options
    from infield.pipelines.pet.bench import run as pet_bench
    from infield.pipelines.pet.bench import run_options as pet_bench_options
    from infield.pipelines.projection_mapping import simulate as projection
    from infield.pipelines.wall_pressure import channel_options, convert_options, simulate_options
    from infield.priors.random_fields import processes

    assert convert_options.WALLS == plane_file.WALLS and convert_options.FLOWS == tuple(jhtdb.FLOWS)
    assert observe_options.TELESCOPES == tuple(telescopes.TELESCOPES)
    assert fields_options.PROCESSES == tuple(processes.PROCESSES)
    assert mri_options.MASKS == masks.MASKS
    assert (mri_options.AXES, mri_options.CHOSEN, mri_options.AVERAGED) == (arrays.AXES, arrays.CHOSEN, arrays.AVERAGED)
    assert {*pet_options.OF_LAW, "groups", "reg"} == {field.name for field in fields(AmyloidLaw)}
    assert {*pet_options.OF_SCANNER, "shape", "spacing"} == {field.name for field in fields(Scanner)}
    given = signature(infer.infer_parameters).parameters
    assert (
        infer_options.COMPONENTS == given["components"].default and infer_options.HELD_OUT == given["held_out"].default
    )
    assert channel_options.BOXES == tuple(boxes.BOXES) and channel_options.LARGEST_CFL == solver.LARGEST_CFL
    assert (simulate_options.DX_PLUS, simulate_options.DZ_PLUS) == (wall_units.DX_PLUS, wall_units.DZ_PLUS)
    assert (projection.SURFACES, projection.TEXTURES) == (tuple(surfaces.SURFACES), tuple(surfaces.TEXTURES))
    assert kriging_options.PARTS == tuple(kriging.PARTS) and kriging_options.NAMES == kriging.NAMES
    assert trust_options.PARTS == tuple(trust.PARTS) and mri_trust_options.PARTS == tuple(mri_trust.PARTS)
    heads = mri_trust_options.HEADS_FIT, mri_trust_options.HEADS_JUDGED
    assert heads == (mri_trust.HEADS_FIT, mri_trust.HEADS_JUDGED)
    assert (pet_bench_options.PARTS, pet_bench_options.TRUTHS) == (pet_bench.PARTS, pet_bench.TRUTHS)


@pytest.mark.parametrize("code", ["import numpy", "import yaml", "import infield.core.grid"])
def test_a_dear_import_is_seen(code):
    assert "packages of others" in too_much(loaded_by(code)[0])


def test_many_small_modules_are_seen():
    assert "41 modules of ours" in too_much({"infield", *(f"infield.part_{i}" for i in range(40))})
    assert "201 in all" in too_much({f"email.part_{i}" for i in range(201)})
    assert not too_much({"infield", "infield.pipelines", "infield.pipelines.cli", "argparse"})


def test_what_the_package_promises_at_the_top_is_there():
    assert fresh("import infield; print(issubclass(infield.InfieldError, ValueError), bool(infield.__version__))") == (
        "True True\n"
    )
    code = """
        import infield
        try:
            infield.nothing_of_this_name
        except AttributeError as error:
            print(error)
    """
    assert "no attribute 'nothing_of_this_name'" in fresh(code)


def fake_torchvision(folder: Path, body: str) -> str:
    """A program's first lines, after which `import torchvision` finds a package of our making."""
    package = folder / "torchvision"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text(textwrap.dedent(body))
    bare = "sys.meta_path[:] = [f for f in sys.meta_path if type(f).__module__ != 'infield_torchvision_hook']"
    return f"import sys; sys.path.insert(0, {str(folder)!r})\n{bare}\nimport infield\n"


def test_a_working_torchvision_is_left_alone(tmp_path):
    start = fake_torchvision(tmp_path, "loads = globals().get('loads', 0) + 1")
    found = fresh(
        start
        + "import torchvision as before\n"
        + "infield.import_torchvision_first()\n"
        + "import torchvision\n"
        + "import infield.core.torchvision_remedy as REMEDY\n"
        + "print(torchvision is before, torchvision.loads, REMEDY.declared_schemas, 'torch' in sys.modules)"
    )
    assert found == "True 1 [] False\n"


BROKEN = """
    import torch

    @torch.library.register_fake("torchvision::nms")  # as the true one does: fails where its compiled half is missing
    def meta_nms(dets, scores, iou_threshold):
        return dets.new_empty(len(dets), dtype=torch.long)

    works = True
"""


def test_a_torchvision_without_its_compiled_half_is_mended(tmp_path):
    start = fake_torchvision(tmp_path, BROKEN)
    unmended = """
try:
    import torchvision
    print("imported")
except RuntimeError as error:
    print("torchvision::nms does not exist" in str(error))
"""
    assert fresh(start + unmended) == "True\n"  # the fake breaks as the true one does
    mended = "infield.import_torchvision_first(); infield.import_torchvision_first(); import torchvision; "
    schemas = "from infield.core.torchvision_remedy import declared_schemas; "
    assert fresh(start + mended + schemas + "print(torchvision.works, len(declared_schemas))") == "True 1\n"


def test_the_hook_mends_whoever_imports_torchvision_first(tmp_path):
    start = fake_torchvision(tmp_path, BROKEN) + "from infield.core.torchvision_remedy import install_hook\n"
    assert fresh(start + "install_hook(); install_hook(); import torchvision; print(torchvision.works)") == "True\n"
    other = fake_torchvision(tmp_path / "other", "raise RuntimeError('another failure')")
    code = """
from infield.core.torchvision_remedy import install_hook
install_hook()
try:
    import torchvision
except RuntimeError as error:
    print(error)
"""
    assert fresh(other + code) == "another failure\n"


def test_another_failure_of_torchvision_is_not_hidden(tmp_path):
    start = fake_torchvision(tmp_path, "raise RuntimeError('a failure of another kind')")
    code = """
try:
    infield.import_torchvision_first()
except RuntimeError as error:
    print(error)
"""
    assert fresh(start + code) == "a failure of another kind\n"


def test_a_missing_torchvision_is_no_error():
    code = """
        import sys
        sys.modules["torchvision"] = None  # importing it now raises ModuleNotFoundError
        import infield
        infield.import_torchvision_first()
        print(infield.core.torchvision_remedy.declared_schemas)
    """
    assert fresh(code) == "[]\n"
