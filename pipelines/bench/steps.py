"""Steps that are exact for Gaussian priors: draws of priors in few calls, denoisers that are denoisers, and what each
datum contributes.

    infield bench steps --parts integrator --records steps.json

Parts: `integrator` (draws of priors beside Heun's method, the midpoint rule and DPM-Solver++ at equal calls),
`denoisers` (shipped priors, and priors with a planted circulation), `explain` (sensitivities beside exact ones),
`smc` (Gaussian priors, 40 and 60 data).
"""

from __future__ import annotations

import argparse
import sys
from typing import Any

import torch

from infield.pipelines.bench import steps_denoisers, steps_explain, steps_integrator, steps_smc
from infield.pipelines.bench.steps_options import PARTS
from infield.pipelines.bench.targets import TargetBench

RUN = dict(zip(PARTS, (steps_integrator.run, steps_denoisers.run, steps_explain.run, steps_smc.run), strict=True))

METRICS: dict[str, str] = {}
METHOD_NOTE = (
    "Path error: root mean square over fields of the source, beside the same path in 400 steps (96 under networks). "
    "Power: in octaves of wavenumber, beside that path. Asymmetry: 0 for a denoiser, 2 for a circulation. One thread."
)


def chosen(arguments: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """This bench with its options."""
    return sys.modules[__name__], {"parts": arguments.parts}


def run(*, quick: bool = False, seed: int = 0, parts: list[str] | None = None) -> TargetBench:
    """The requested parts."""
    torch.set_num_threads(1)
    bench = TargetBench("steps", seed)
    for part in parts or PARTS:
        RUN[part](bench, quick, seed)
    return bench
