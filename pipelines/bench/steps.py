"""Steps that are exact for Gaussian priors: draws of priors in few calls, denoisers that are denoisers, and what each
datum contributes.

    infield bench steps --parts integrator --records steps.json

Parts: `integrator` (draws of priors beside Heun's method, the midpoint rule and DPM-Solver++ at equal calls), `slice`
(what a step of `source-slice` costs), `denoisers` (shipped priors, and priors with a planted circulation), `explain`
(sensitivities beside exact ones), `smc` (Gaussian priors, 40 and 60 data), `mixture` (`smc` on the cases of that
bench), `nonlinear` and `chains` (`smc` of Darcy flow and counts). Parts of many cases resume with `--keep`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch

from infield.core.errors import InfieldError
from infield.pipelines.bench import (
    steps_denoisers,
    steps_explain,
    steps_integrator,
    steps_mixture,
    steps_nonlinear,
    steps_smc,
)
from infield.pipelines.bench.kept import Kept
from infield.pipelines.bench.steps_kept import StepsBench
from infield.pipelines.bench.steps_options import PARTS

RUN = {
    "integrator": steps_integrator.run,
    "slice": steps_integrator.run_slice,
    "denoisers": steps_denoisers.run,
    "explain": steps_explain.run,
    "smc": steps_smc.run,
    "mixture": steps_mixture.run,
    "nonlinear": steps_nonlinear.run,
    "chains": steps_nonlinear.run_chains,
}

METRICS: dict[str, str] = {}
METHOD_NOTE = (
    "Path error: root mean square over fields of the source, beside the same path in 400 steps (96 under networks). "
    "Power: in octaves of wavenumber, beside that path. Asymmetry: 0 for a denoiser, 2 for a circulation. One thread."
)


def chosen(arguments: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """This bench with its options."""
    return sys.modules[__name__], {name: getattr(arguments, name) for name in ("parts", "cases", "keep")}


def run(
    *,
    quick: bool = False,
    seed: int = 0,
    parts: list[str] | None = None,
    cases: int | None = None,
    keep: Path | None = None,
) -> StepsBench:
    """The requested parts.

    Raises:
        InfieldError: Of cases there are none, or a kept one cannot be read.
    """
    if cases is not None and cases < 1:
        raise InfieldError(where="--cases", found=cases, expected="at least 1")
    torch.set_num_threads(1)
    bench = StepsBench("steps", seed, cases=cases, kept=Kept(keep))
    for part in parts or PARTS:
        RUN[part](bench, quick, seed)
    return bench
