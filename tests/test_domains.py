"""Folders of roles import no domain, and no module imports itself by way of others; the counter sees what it must."""

from __future__ import annotations

import pytest
from domain_counter import across, circles, imports, modules

CROSSING = 0
CIRCLES = 0
"""Never up. The circle that is left is that of modules which import `InfieldError` from the package itself."""


def test_no_role_imports_a_domain():
    found = across()
    assert len(found) == CROSSING, "\n".join(found)


def test_no_circles_of_imports():
    found = circles()
    assert len(found) == CIRCLES, found


def test_every_room_is_seen():
    rooms = {name.split(".")[1] for name in modules() if "." in name}
    assert rooms >= {"core", "physics", "priors", "posterior", "datasets", "pipelines"}


KNOWN = {"infield", "infield.physics", "infield.physics.cm21", "infield.physics.cm21.telescopes"}


@pytest.mark.parametrize(
    "source",
    [
        "import infield.physics.cm21.telescopes",
        "from infield.physics.cm21 import telescopes",
        "from infield.physics.cm21.telescopes import HERA",
        "from ..cm21.telescopes import HERA",
        "def f():\n    from infield.physics.cm21 import telescopes",
        "if TYPE_CHECKING:\n    from infield.physics.cm21.telescopes import HERA",
        "TABLE = {'hera': 'infield.physics.cm21.telescopes'}",
        "TABLE = {'hera': 'infield.physics.cm21.telescopes:HERA'}",
    ],
)
def test_the_counter_sees(source):
    assert [name for _, name in imports(source, KNOWN, "infield.physics.noise")] == ["infield.physics.cm21.telescopes"]


@pytest.mark.parametrize(
    "source", ['"""infield.physics.cm21.telescopes"""', "import torch", "x = 'see infield.physics.cm21.telescopes'"]
)
def test_the_counter_lets_through(source):
    assert list(imports(source, KNOWN)) == []


def house(root, **files):
    for room in ("physics", "priors", "posterior", "datasets", "pipelines"):
        (root / room).mkdir()
    (root / "src/infield").mkdir(parents=True)
    (root / "pyproject.toml").write_text('[project.scripts]\nx = "infield.priors.cm21:main"\n')
    for name, source in files.items():
        path = root / (name.replace("__", "/") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)


def test_crossings_and_circles_of_a_small_house(tmp_path):
    house(
        tmp_path,
        physics__roles__a="import infield.physics.mri.b",
        physics__mri__b="import infield.physics.cm21.c, infield.physics.mri.d",
        physics__mri__d="",
        physics__cm21__c="import infield.physics.roles.a",
        priors__cm21="",
        src__infield__domains="import infield.physics.mri.b",
    )
    assert [line.split(" ", 1)[1] for line in across(tmp_path)] == [
        "infield.physics.mri.b -> infield.physics.cm21.c",
        "infield.physics.roles.a -> infield.physics.mri.b",
        "x -> infield.priors.cm21",
    ]
    assert circles(tmp_path) == [["infield.physics.cm21.c", "infield.physics.mri.b", "infield.physics.roles.a"]]
