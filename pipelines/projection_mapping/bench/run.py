"""Projection mapping: solver, calibration and compensation beside named peers, on scenes of an independent renderer.

    infield bench projection --records projection.json
    infield bench projection --quick --parts inside seams

Four scenes (`cases.SCENES`, by name and seed) and 12 photographs that scikit-image and scikit-learn carry. No row is
rendered by the operator that compensates. PSNR and SSIM on sRGB-coded images with data range 1, over covered pixels;
RMSE would be the plain one; Delta E 2000 under D65. Drives of 8 bits. Differences are paired over pictures, with
standard errors; a target is met within two of them.
"""

from __future__ import annotations

import argparse
from types import ModuleType
from typing import Any

import infield.pipelines.projection_mapping.bench.run as this
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
    return this, {"parts": tuple(arguments.parts or PARTS), "height": arguments.height}


def run(
    *, quick: bool = False, seed: int = 0, parts: tuple[str, ...] = PARTS, height: int | None = None
) -> TargetBench:
    """Some or all parts; fewer pixels, scenes and pictures when quick."""
    from infield.pipelines.projection_mapping.bench import calibration, inside, outside, seams, solver

    bench = TargetBench("projection", seed)
    height = height or (36 if quick else 60)
    work = {
        "solver": lambda: solver.solver(bench, quick, seed),
        "calibration": lambda: calibration.calibration(bench, height, quick, seed),
        "inside": lambda: inside.inside(bench, height, quick, seed),
        "outside": lambda: outside.outside(bench, height, quick, seed),
        "seams": lambda: seams.seams(bench, quick, seed),
    }
    with progress() as bar:
        for part in bar.track(parts, description="projection"):
            work[part]()
    return bench
