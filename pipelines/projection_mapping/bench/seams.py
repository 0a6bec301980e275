"""Steps that a drifting lamp leaves where images of projectors end."""

from __future__ import annotations

import numpy as np
import torch

from infield.physics.projection_mapping.compensate import drives_to_rasters, pixelwise_light, quantise
from infield.physics.projection_mapping.gamut import nearest
from infield.physics.projection_mapping.setup import Setup
from infield.pipelines.bench.targets import TargetBench
from infield.pipelines.projection_mapping.bench.cases import judged, truth

DRIFT = 0.05
NAME = "seam-mild-2"
HEIGHT, QUICK_HEIGHT = 180, 96
"""A border fades over pixels, so that steps depend on their number."""


def seams(bench: TargetBench, quick: bool, seed: int) -> None:
    """A surface of its own, sharper and larger than those of the other parts."""
    setup = truth(NAME, QUICK_HEIGHT if quick else HEIGHT)
    target = np.full((3, *setup.shape), 0.5 * float(np.quantile(_white(setup).min(0)[judged(setup)], 0.02)))
    light = pixelwise_light(setup, target, "linear")
    columns = setup.columns()
    b = (target - setup.background)[:, setup.covered].T
    least = drives_to_rasters(setup, nearest(columns, b).drives)
    case = f"{NAME}, uniform target, one lamp 5 % brighter"
    bench.judge(case, "feathered ridge", "99.9 % of steps, of the target", _steps(setup, light, target), None, 0.005)
    bench.judge(case, "least drive", "99.9 % of steps, of the target", _steps(setup, least, target))
    for dither in (False, True):
        emitted = torch.from_numpy(quantise(setup, light.double().numpy(), 8, dither, seed)[1])
        words = f"rounded to 8 bits, {'with' if dither else 'without'} dither"
        bench.judge(case, words, "99.9 % of steps, of the target", _steps(setup, emitted, target, light))


def _white(setup: Setup) -> np.ndarray:
    ones = torch.ones((1, 3, *setup.grid.shape))
    return setup.operator.A(ones)[0].numpy()


def _steps(setup: Setup, light: torch.Tensor, target: np.ndarray, smooth: torch.Tensor | None = None) -> float:
    """Of the change that the drift makes, or of the whole with rounding, between neighbours."""
    drifted = light.clone().float()
    drifted[:, 0] *= 1 + DRIFT
    base = light if smooth is None else smooth
    change = (setup.operator.A(drifted[None]) - setup.operator.A(base.float()[None]))[0].numpy() / target
    inside = judged(setup)
    across = np.abs(np.diff(change, axis=2))[:, inside[:, 1:] & inside[:, :-1]]
    down = np.abs(np.diff(change, axis=1))[:, inside[1:] & inside[:-1]]
    return float(np.quantile(np.concatenate([across.ravel(), down.ravel()]), 0.999))
