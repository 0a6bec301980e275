"""Projection mapping: solver, calibration, compensation, cooperation beside peers; scenes of an independent renderer.

    infield bench projection --records projection.json
    infield bench projection --quick --parts inside seams
    infield bench projection --pictures 6 --keep parts.json --records projection.json

Four scenes (`cases.SCENES`, by name and seed) and 12 photographs that scikit-image and scikit-learn carry. No row is
rendered by the operator that compensates. PSNR and SSIM on sRGB-coded images with data range 1, over covered pixels;
RMSE would be the plain one; Delta E 2000 under D65. Drives of 8 bits. Differences are paired over pictures, with
standard errors; a target is met within two of them. `--keep` stores each part when it is finished; rerun the same
command to resume.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import infield.pipelines.projection_mapping.bench.run as this
from infield.core.errors import InfieldError
from infield.core.json_text import to_json
from infield.pipelines.bench.records import Record
from infield.pipelines.bench.targets import TargetBench
from infield.pipelines.projection_mapping.bench.run_options import PARTS
from infield.pipelines.run.console import progress
from infield.pipelines.run.options import check_at_least

METRICS: dict[str, str] = {}
METHOD_NOTE = (
    "PSNR, SSIM: sRGB code, data range 1, covered pixels; Delta E 2000: D65; times: CPU seconds of one process on "
    "whatever machine this is."
)


def chosen(arguments: argparse.Namespace) -> tuple[ModuleType, dict[str, Any]]:
    """This module, and the options that are given."""
    check_at_least(24, height=arguments.height)
    check_at_least(1, pictures=arguments.pictures)
    names = ("height", "pictures", "keep")
    return this, {"parts": tuple(arguments.parts or PARTS), **{name: getattr(arguments, name) for name in names}}


def run(
    *,
    quick: bool = False,
    seed: int = 0,
    parts: tuple[str, ...] = PARTS,
    height: int | None = None,
    pictures: int | None = None,
    keep: Path | None = None,
) -> TargetBench:
    """Some or all parts; fewer pixels, scenes and pictures when quick. What `keep` holds is not run again.

    Raises:
        InfieldError: `keep` is no such file, or of other settings.
    """
    from infield.pipelines.projection_mapping.bench import (
        calibration,
        cooperation,
        inside,
        outside,
        seams,
        solver,
    )
    from infield.pipelines.projection_mapping.bench import pictures as of_a_prior
    from infield.pipelines.projection_mapping.bench.cases import CORNER, QUICK_PICTURES, SCENES

    bench = TargetBench("projection", seed)
    height = height or (36 if quick else 60)
    count = pictures or (QUICK_PICTURES if quick else None)
    names = [*SCENES]
    work: dict[str, Sequence[tuple[str, Callable[[], None]]]] = {
        "solver": [(f"{n}", partial(solver.accuracy, bench, n, quick, seed)) for n in solver.PROJECTORS]
        + [("size", partial(solver.size, bench, quick, seed))],
        "calibration": [
            (name, partial(calibration.calibration, bench, name, height, quick, seed))
            for name in ([names[0], CORNER] if quick else names)
        ]
        + [("real", partial(calibration.real, bench, seed))],
        "inside": [
            (name, partial(inside.inside, bench, name, height, count, seed))
            for name in ([names[0], CORNER] if quick else names)
        ],
        "outside": [
            (f"{name}, {factor:g}", partial(outside.outside, bench, name, height, count, factor))
            for name in (names[:2] if quick else names)
            for factor in outside.BRIGHTNESS
        ],
        "seams": [("", partial(seams.seams, bench, quick, seed))],
        "cooperation": [
            (f"{n} pixels", partial(cooperation.few_pixels, bench, n, quick, seed)) for n in cooperation.SMC_STEPS
        ],
        "pictures": [
            ("guides", partial(of_a_prior.pictures, bench, height, quick, seed)),
            ("ring", partial(of_a_prior.ring, bench, quick, seed)),
        ],
    }
    settings = {"seed": seed, "quick": quick, "height": height, "pictures": count}
    kept = _read(keep, settings) if keep is not None else {}
    units = [(f"{part}/{name}", call) for part in parts for name, call in work[part]]
    with progress() as bar:
        for unit, call in bar.track(units, description="projection"):
            if unit in kept:
                bench.records += [Record(**entry) for entry in kept[unit]]
                continue
            before = len(bench.records)
            call()
            kept[unit] = [record.to_json() for record in bench.records[before:]]
            if keep is not None:
                draft = keep.with_name(keep.name + ".draft")
                draft.write_text(to_json({"settings": settings, "units": kept}, indent=1) + "\n", encoding="utf-8")
                draft.replace(keep)
    return bench


def _read(keep: Path, settings: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Finished parts of a file."""
    if not keep.exists():
        return {}
    try:
        content = json.loads(keep.read_text(encoding="utf-8"))
        found, units = content["settings"], dict(content["units"])
    except (OSError, ValueError, KeyError, TypeError):
        raise InfieldError(where=keep, found="another file", expected="finished parts of this bench") from None
    if found != settings:
        raise InfieldError(where=keep, found=f"parts with {found}", expected=str(settings), remedy="name another file")
    return units
