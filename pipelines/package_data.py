"""Where the configurations, checkpoints and cards that ship with the package lie, in a checkout and in a wheel."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

ROOT = Path(str(files("infield.pipelines")))

CHECKPOINTS = ROOT / "checkpoints"
"""Folder of the shipped checkpoints, a card (`NAME.md`) beside each."""

CONFIGS = ROOT / "configs"
"""Folder of the configurations of `infield fit`."""
