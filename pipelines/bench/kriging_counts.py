"""The former name of `infield bench kriging --parts counts`, for one version more."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from infield.core.errors import InfieldError
from infield.pipelines.bench.kriging import counts
from infield.pipelines.bench.kriging.processes import Limits
from infield.pipelines.bench.kriging.run import METHOD_NOTE, METRICS
from infield.pipelines.bench.kriging.settings import Settings
from infield.pipelines.bench.kriging.tables import PartsBench
from infield.pipelines.run.console import say

__all__ = ["METHOD_NOTE", "METRICS", "chosen", "run"]


def chosen(arguments: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """This bench with its options."""
    names = ("truths", "peer_truths", "side")
    return sys.modules[__name__], {name: getattr(arguments, name) for name in names}


def run(
    *,
    quick: bool = False,
    seed: int = 0,
    truths: int | None = None,
    peer_truths: int | None = None,
    side: int | None = None,
) -> PartsBench:
    """The part of this name.

    Raises:
        InfieldError: Of truths there are none.
    """
    if truths is not None and truths < 1:
        raise InfieldError(where="--truths", found=truths, expected="at least 1")
    say("bench kriging-counts is bench kriging --parts counts; its old name goes with the next version")
    bench = PartsBench("kriging", seed)
    with tempfile.TemporaryDirectory(prefix="infield-kriging-") as folder:
        settings = Settings(seed, truths or (1 if quick else 10), quick, False, (counts.NIFTY,), Limits(Path(folder)))
        counts.run(bench, settings, side=side, peer_truths=peer_truths)
    return bench
