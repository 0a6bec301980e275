"""Configurations, checkpoints and cards that ship with the package, by name, in a checkout and in a wheel.

Larger checkpoints are a distribution of their own, `infield-checkpoints`; their cards are here. Other packages add
checkpoints by the entry point `infield.checkpoint_folders`, whose value is a package with `NAME.ckpt` files.
"""

from __future__ import annotations

from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path

from infield.core import registry
from infield.core.errors import InfieldError
from infield.core.suggestions import did_you_mean

ROOT = Path(str(files("infield.pipelines")))

CHECKPOINTS = ROOT / "checkpoints"
"""Folder of the shipped checkpoints, a card (`NAME.md`) beside each."""

CONFIGS = ROOT / "configs"
"""Folder of the configurations of `infield fit`."""

LARGER = "infield-checkpoints"
"""Distribution of the larger checkpoints."""


def checkpoint_path(name: str) -> Path | None:
    """The checkpoint of a name, e.g. `brain_2d`; None if no checkpoint has this name.

    Raises:
        InfieldError: It is one of those in `infield-checkpoints`, which is not installed.
    """
    for folder in _checkpoint_folders():
        path = folder / f"{name}.ckpt"
        if path.is_file():
            return path
    if name in shipped_checkpoints():
        raise InfieldError(
            where=f"prior '{name}'",
            found="its card alone",
            expected=f"the distribution {LARGER}",
            remedy=f"install {LARGER} (in the repository: pip install ./pipelines/checkpoints/large)",
        )
    return None


def checkpoint_named(name: str | Path) -> Path:
    """A checkpoint's file: a path, or the name of one that ships, e.g. `brain_2d`.

    Raises:
        InfieldError: Neither; the line offers the nearest name.
    """
    path = Path(name) if Path(name).exists() else checkpoint_path(str(name))
    if path is None:
        raise InfieldError(
            where=f"prior '{name}'",
            found="no such file, and no prior of this name",
            expected="a file, or a name that `infield list priors` shows",
            remedy=nearest(str(name), shipped_checkpoints()),
        )
    return path


def shipped_checkpoints() -> dict[str, str]:
    """Names of all checkpoints, each with the title of its card."""
    found: dict[str, str] = {}
    for folder in _checkpoint_folders():
        for path in sorted({*folder.glob("*.ckpt"), *folder.glob("*.md")}):
            card = path.with_suffix(".md")
            title = _first_line(card).partition(": ")[2] if card.is_file() else ""
            if path.suffix == ".ckpt" or _first_line(card).startswith(f"# {path.stem}.ckpt:"):
                found.setdefault(path.stem, title)
    return found


def config_path(name: str) -> Path:
    """A configuration of `infield fit`: a file, or the name of one that ships, e.g. `unet_2d`.

    Raises:
        InfieldError: Neither; the line offers the nearest name.
    """
    known = shipped_configs()
    if name in known and not Path(name).is_file():
        return known[name][0]
    if Path(name).is_file():
        return Path(name)
    raise InfieldError(
        where=f"configuration '{name}'",
        found="no such file, and no configuration of this name",
        expected="a YAML file, or a name that `infield list configs` shows",
        remedy=nearest(name, known),
    )


def shipped_configs() -> dict[str, tuple[Path, str]]:
    """Names of all configurations, each with its file and the first sentence of it."""
    paths = sorted(CONFIGS.glob("fit_*.yaml"))
    return {path.stem.removeprefix("fit_"): (path, _first_sentence(path)) for path in paths}


def nearest(name: str, known: Iterable[str]) -> str:
    """The remedy for an unknown name: the nearest known one, or all of them where none is near."""
    known = list(known)
    return did_you_mean(Path(name).stem.removeprefix("fit_"), known) or f"known names: {', '.join(known)}"


def _checkpoint_folders() -> list[Path]:
    """The folder of this package first; that of a package without one is left out."""
    found = []
    for entry in registry.table("checkpoint_folders").values():
        try:
            folder = Path(str(files(entry.target.partition(":")[0])))
        except ModuleNotFoundError:
            continue
        found.append(CHECKPOINTS if entry.package == registry.HOUSE else folder)
    return found


def _first_line(path: Path) -> str:
    with path.open(encoding="utf-8") as file:
        return file.readline().strip()


def _first_sentence(path: Path) -> str:
    """Of the comment at the head of a file."""
    words: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if not line.startswith("# "):
            break
        words.append(line.removeprefix("# "))
    return " ".join(words).partition(". ")[0].rstrip(".")
