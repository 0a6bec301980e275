"""Point data to a map without a prior, beside the peers of geostatistics: right, covered, and at what cost?

    infield bench kriging --parts points --truths 2 --records points.json
    infield bench kriging --parts points --only "nu 3/2, order free, noise estimated"
    infield bench kriging --keep cases.json --records all.json

Parts: `points` (2,000 points to 128 x 128), `dense-cells` (20,000 to 64 x 64), `large` (20,000 to 512 x 512; with
`--full` 100,000 to 1024 x 1024), `shapes` (anisotropy, units, trends, gaps, biases, very few data), `real` (files under
$INFIELD_DATA), `calibration`, `counts` (of an unknown rate, beside NIFTy), and `trust` (what `trusted` detects). Dense
kriging under the true law is the reference, an implementation of this bench's own. Every method runs in a process of
its own with one thread; CPU seconds are of the whole process, memory is its peak over that of its imports. Peers: pip
install 'infield[kriging]'.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from infield.core.errors import InfieldError
from infield.pipelines.bench.kriging import calibration, counts, large, points, real, shapes, trust
from infield.pipelines.bench.kriging.peers import PEERS
from infield.pipelines.bench.kriging.processes import Limits
from infield.pipelines.bench.kriging.settings import Settings
from infield.pipelines.bench.kriging.tables import FORMATS, PartsBench

PARTS = {
    "points": points.run,
    "dense-cells": points.run_dense_cells,
    "large": large.run,
    "shapes": shapes.run,
    "real": real.run,
    "calibration": calibration.run,
    "counts": counts.run,
    "trust": trust.run,
}

NAMES = (*PEERS, counts.NIFTY)
METRICS = FORMATS
METHOD_NOTE = (
    "Means over n truths; of costs and noise levels the median. RMSE and CRPS are of the noise-free field (of held-out "
    "data under `real`), CRPS from mean and sd; rim: outer 5 %; far: the tenth of cells farthest from data; one thread."
)


def chosen(arguments: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """This bench with its options."""
    names = ("parts", "truths", "peers", "only", "keep", "judge", "full", "memory", "cpu")
    return sys.modules[__name__], {name: getattr(arguments, name) for name in names}


def run(
    *,
    quick: bool = False,
    seed: int = 0,
    parts: list[str] | None = None,
    truths: int | None = None,
    peers: list[str] | None = None,
    only: str = "",
    keep: list[Path] | None = None,
    judge: bool = False,
    full: bool = False,
    memory: float = 12.0,
    cpu: float = 3600.0,
) -> PartsBench:
    """The requested parts.

    Raises:
        InfieldError: Of truths there are none, or no case has the requested name.
    """
    if truths is not None and truths < 1:
        raise InfieldError(where="--truths", found=truths, expected="at least 1")
    if judge and not keep:
        raise InfieldError(where="--judge", found="no --keep", expected="files with finished cases")
    bench = PartsBench("kriging", seed, closed=judge)
    if keep:
        bench.load(keep)
    named = tuple(() if quick and peers is None else NAMES if peers is None else peers)
    with tempfile.TemporaryDirectory(prefix="infield-kriging-") as folder:
        limits = Limits(Path(folder), memory, cpu)
        settings = Settings(seed, truths or (1 if quick else 10), quick, full, named, limits, only)
        for part in parts or PARTS:
            PARTS[part](bench, settings)
    if only and not bench.records:
        raise InfieldError(where="--only", found=only, expected="part of the name of a case of these parts")
    return bench
