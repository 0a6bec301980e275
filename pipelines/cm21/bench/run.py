"""Lightcones of a conditional prior against those of the simulator, at parameters that the training has not seen.

    infield bench cm21 --simulations TRAIN.zarr --reference REF0.zarr REF1.zarr --prior PRIOR.ckpt

TRAIN.zarr is what the prior was trained on; each reference an ensemble of many seeds at one point. At every point as
many cones as the reference has (or --draws) are drawn and compared with it as `infield compare-cones` does: medians
over the ensemble of global signal, power spectra of chunks of redshift, scattering coefficients and shares of exact
zeros. Errors are multiples of the floor: what random halves of the reference differ by, scaled to the sizes compared.

Beside the prior: `gaussian`, a conditional Gaussian field with the mean and the spectra of the training cones, by local
regression over the parameters (`priors.cm21.gaussian`); `unconditional`, the same prior at parameters taken at
random from the range of training; and `simulator`, one half of the reference against the other. The prior draws as
`infield emulate` does: by its emulator where it has one, by its flow with --steps.

Costs: network calls and seconds a cone of one thread, those of the simulator (--simulator-seconds, or one cone by
py21cmfast, of this Python or of --python, if TRAIN.zarr holds its settings), and peak memory of a process that draws
128 or 1024 cells of the line of sight. Seconds of a core do not depend on what else the machine does.
"""

from __future__ import annotations

import argparse
import importlib.util
import math
import statistics
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from infield.core.errors import InfieldError
from infield.core.randomness import SampleStreams
from infield.pipelines.bench.records import Bench
from infield.pipelines.cm21.bench.cases import Case, Training, open_cases
from infield.pipelines.cm21.bench.costs import Clock, simulator_core_seconds
from infield.pipelines.cm21.bench.memory import add_memory
from infield.pipelines.cm21.bench.setting import Setting
from infield.pipelines.cm21.bench.telescope import OURS, WIENER, add_telescope, ahead
from infield.pipelines.cm21.emulate import draw_cone
from infield.pipelines.cm21.members import members_of
from infield.pipelines.cm21.parameter_design import Design, cone_seeds
from infield.pipelines.run.console import Unseen, progress
from infield.pipelines.run.options import refuse_without
from infield.posterior.cm21.summary import LightconeSummary
from infield.priors.cm21.flow import STRETCH
from infield.priors.cm21.prior_entry import load_lightcone_prior

if TYPE_CHECKING:
    from rich.progress import Progress

COSTED = 16
"""Cones that are drawn at one point for what one of them costs, where no ensemble was drawn."""

METRICS = {
    "global_signal_floors": ".2f",
    "spectrum_floors": ".2f",
    "scattering_floors": ".2f",
    "zeros_floors": ".2f",
    "spectrum_rel": ".1%",
    "zeros_within": ".0%",
}
COSTS = {
    "velocity_calls": ".0f",
    "seconds": ".2f",
    "core_seconds": ".2f",
    "peak_mib": ".0f",
    "added_mib": ".0f",
}
TELESCOPE_METRICS = {
    "correlation": ".3f",
    "coverage_90": ".1%",
    "error": ".3f",
    "zeros": ".1%",
    "zeros_true": ".1%",
    "chi_square": ".3f",
    "posterior_calls": ".0f",
    "core_seconds_draw": ".1f",
}
ASKED = {"found": ".3f", "asked": ".2f", "reached": ".0f"}
FIRST_METRICS = (
    ASKED,
    COSTS,
    TELESCOPE_METRICS,
    {name: ".3f" for name in ("global_signal_MAE_std", "spectrum_MAE_std", "scattering_MAE_std", "zeros_MAE_std")},
)
SUMMARY = statistics.mean
METHOD_NOTE = (
    "floors: MAE_std over what random halves of the simulator's ensemble score, at the sizes compared; 1 is as good as "
    "the simulator, and 'simulator' shows what chance makes of 1. spectrum rel: mean |error| of the median Delta^2, "
    "0.1 to 0.5 rad/Mpc, where it is above 1 mK^2; zeros within: slices whose median "
    "share of exact zeros is within the scatter between seeds, of those that have any. A Gaussian field has none. "
    "reached: 1 for yes. Seconds a cone, one thread. Cylindrical spectra, chunks and floors are in the JSON."
)

PRIOR, GAUSSIAN, UNCONDITIONAL, SIMULATOR = "prior", "gaussian", "unconditional", "simulator"
QUICK_MEMBERS, QUICK_STEPS = 8, 2
ELSEWHERE = 10_000
"""Added to the seed for draws of the unconditional prior."""

Draw = Callable[[range], Tensor]
"""Cones by their numbers, `(some, x, y, los)` in mK."""


OPTIONS = ("prior", "simulations", "reference", "steps", "simulator_seconds", "python", "workers", "parts")


def chosen(arguments: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """This bench, with its options."""
    _refuse_unused(arguments)
    options = {name: getattr(arguments, name) for name in OPTIONS} | {"samples": arguments.draws}
    return sys.modules[__name__], {name: value for name, value in options.items() if value is not None}


def _refuse_unused(arguments: argparse.Namespace) -> None:
    """Refuse options of parts that are not run, and a Python of which nothing is measured."""
    parts = set(arguments.parts or PARTS)
    parts = set(PARTS) if "all" in parts else parts
    drawn = bool(parts & {"emulation", "costs"})
    refuse_without("part emulation", "emulation" in parts, arguments, "draws")
    refuse_without("part emulation or costs", drawn, arguments, "steps", "workers")
    refuse_without("part costs", "costs" in parts, arguments, "simulator_seconds", "python")
    if arguments.python is not None and arguments.simulator_seconds is not None:
        raise InfieldError(where="--python", found="--simulator-seconds", expected="one of them")


def run(
    *,
    simulations: Path | None = None,
    reference: Sequence[Path] = (),
    prior: Path | None = None,
    samples: int | None = None,
    steps: int | None = None,
    simulator_seconds: float | None = None,
    python: str | None = None,
    workers: int = 1,
    parts: Sequence[str] = ("all",),
    quick: bool = False,
    seed: int = 0,
) -> Bench:
    """Ensembles at every reference, and costs.

    Arguments:
        simulations: The cones of training.
        reference: Ensembles of the simulator, one file a point.
        prior: The prior's checkpoint.
        samples: Cones that are drawn at a point; None for as many as the reference has.
        steps: Of the integration; None for the default of `infield emulate`.
        simulator_seconds: Of a core for one cone of the simulator; None to run it where it can be.
        python: A Python that has py21cmfast; None for this one.
        workers: Cones that are drawn at a time.
        parts: Which of `PARTS`; "all" for all of them.
        quick: Eight cones of each, two steps, no memory: to check that it runs.
        seed: Of draws and halvings.

    Raises:
        InfieldError: A file is missing, none or of another grid, or a number makes no sense.
    """
    if simulations is None or prior is None or not reference:
        raise InfieldError(
            where="bench cm21", expected="--simulations TRAIN.zarr, --reference REF.zarr ... and --prior P.ckpt"
        )
    for name, value, least in (("--draws", samples, 2), ("--steps", steps, 1), ("--workers", workers, 1)):
        if value is not None and value < least:
            raise InfieldError(where=name, found=value, expected=f"at least {least}")
    if simulator_seconds is not None and not 0 < simulator_seconds < math.inf:
        raise InfieldError(where="--simulator-seconds", found=simulator_seconds, expected="a finite number above zero")
    unknown = sorted(set(parts) - {"all", *PARTS})
    if unknown:
        raise InfieldError(where="--parts", found=unknown[0], expected=f"one of {', '.join(PARTS)}")
    torch.set_num_threads(1)
    loaded, members = load_lightcone_prior(prior), members_of(simulations, None, "--simulations")
    setting = Setting(
        path=prior,
        prior=loaded,
        training=Training(members, list(loaded.ranges)),
        cases=open_cases(reference, members, loaded, QUICK_MEMBERS if quick else None, seed),
        samples=QUICK_MEMBERS if quick and samples is None else samples,
        steps=steps or (QUICK_STEPS if quick else None),
        seed=seed,
        simulator_seconds=simulator_seconds,
        python=python,
        memory=not quick,
        quick=quick,
        workers=workers,
    )
    bench = Bench("cm21", seed)
    for name, add in PARTS.items():
        if "all" in parts or name in parts:
            add(bench, setting)
    return bench


def add_emulation(bench: Bench, setting: Setting) -> None:
    """Ensembles beside those of the simulator, and their targets."""
    numbers = [setting.samples or len(case.members.numbers) for case in setting.cases]
    with progress() as bar:
        task = bar.add_task("cones", total=max(numbers) + 2 * sum(numbers))

        def summary(case: Case, draw: Draw, n: int) -> LightconeSummary:
            return case.summary_of(_counted(draw, bar, task), n)

        anywhere = summary(setting.cases[0], _unconditional(setting, max(numbers)), max(numbers))
        for case, n in zip(setting.cases, numbers, strict=True):
            case.judge_simulator(bench, SIMULATOR)
            case.judge(bench, PRIOR, summary(case, _conditional(bench, setting, case, n), n))
            case.judge(bench, GAUSSIAN, summary(case, _gaussian(setting, case), n))
            case.judge(bench, UNCONDITIONAL, anywhere.some(torch.arange(n)))
    mean = {name: bench.over_cases(SUMMARY, PRIOR, name) for name in METRICS}
    scattering = [bench.over_cases(SUMMARY, method, "scattering_MAE_std") for method in (GAUSSIAN, PRIOR)]
    _ask(bench, "global signal, floors", mean["global_signal_floors"], 2, most=True)
    _ask(bench, "power spectrum, relative", mean["spectrum_rel"], 0.1, most=True)
    _ask(bench, "scattering, error of the Gaussian over ours", scattering[0] / scattering[1], 3, most=False)
    _ask(bench, "exact zeros, slices within the scatter", mean["zeros_within"], 1, most=False)
    _ask(bench, "network calls a cone", bench.over_cases(SUMMARY, PRIOR, "velocity_calls"), 50, most=True)


def add_costs(bench: Bench, setting: Setting) -> None:
    """Seconds of the prior and of the simulator, and the prior's memory."""
    case = setting.cases[0]
    if math.isnan(bench.over_cases(SUMMARY, PRIOR, "core_seconds")):  # else measured with the ensembles
        cones = 1 if setting.quick else COSTED
        _conditional(bench, setting, case, cones)(range(cones))
    ours, simulator = bench.over_cases(SUMMARY, PRIOR, "core_seconds"), setting.simulator_seconds
    if simulator is None and (setting.python or importlib.util.find_spec("py21cmfast")):
        simulator = simulator_core_seconds(setting.training.members.cones, case.point, setting.python)
    if simulator is not None:
        bench.add("cost", SIMULATOR, "core_seconds", simulator, "s")
        _ask(bench, "seconds, the simulator's over ours", simulator / ours, 100, most=False)
    if setting.memory:
        _ask(bench, "memory, depth 1024 over 128", add_memory(bench, setting.path), 1.3, most=True)


def add_reconstruction(bench: Bench, setting: Setting) -> None:
    """Cones through a telescope (`cm21_telescope`), and the targets of their posteriors."""
    add_telescope(bench, setting, **({"truths": 1, "draws": 4} if setting.quick else {}))
    _ask(bench, "cross-correlation, least lead over Wiener in a bin", ahead(bench), 0, most=False)
    off = abs(bench.over_cases(SUMMARY, OURS, "coverage_90") - 0.9)
    _ask(bench, "coverage of 90 %, how far off", off, 0.04, most=True)
    off = abs(bench.over_cases(SUMMARY, WIENER, "coverage_90") - 0.9)
    _ask(bench, "coverage of 90 %, how far off (wiener)", off, 0.04, most=True)


PARTS: dict[str, Callable[[Bench, Setting], None]] = {
    "emulation": add_emulation,
    "telescope": add_reconstruction,
    "costs": add_costs,
}
"""In this order."""


def _conditional(bench: Bench, setting: Setting, case: Case, n: int) -> Draw:
    """Draws at the point, whose time and network calls are recorded."""
    seeds, depth = cone_seeds(n, case.seed), case.members.cones.grid.shape[2]

    def draw(numbers: range) -> Tensor:
        calls: list[int] = []
        hook = setting.prior.network.register_forward_hook(lambda *_: calls.append(1))
        drawn = _cones(setting, case, [case.point] * n, seeds, numbers)
        hook.remove()
        stretches = math.ceil(depth / STRETCH)  # of the line of sight, which make one call
        by_flow = len(calls) / len(numbers) / stretches
        uses_emulator = setting.prior.uses_emulator(setting.steps)
        bench.add(case.name, PRIOR, "velocity_calls", setting.prior.calls() if uses_emulator else by_flow)
        for _, *times in drawn:
            for name, seconds in zip(("seconds", "core_seconds"), times, strict=True):
                bench.add(case.name, PRIOR, name, seconds, "s")
        return torch.stack([cone for cone, *_ in drawn])

    return draw


def _unconditional(setting: Setting, n: int) -> Draw:
    """Draws of the same prior at parameters anywhere in the range of training."""
    seeds, anywhere = cone_seeds(n, setting.seed + ELSEWHERE), Design(setting.prior.ranges, {}).points(n, setting.seed)
    points = [{name: float(values[i]) for name, values in anywhere.items()} for i in range(n)]
    return lambda numbers: torch.stack([c for c, *_ in _cones(setting, setting.cases[0], points, seeds, numbers)])


def _cones(
    setting: Setting, case: Case, points: list[dict[str, float]], seeds: np.ndarray, numbers: range
) -> list[tuple[Tensor, float, float]]:
    """Cones as `infield emulate` draws them, and seconds of the clock and of a core for each."""
    nx, ny, _ = case.members.cones.grid.shape

    def draw(i: int) -> tuple[Tensor, float, float]:
        clock = Clock()
        cone = draw_cone(setting.prior, points, seeds, (nx, ny), case.cells, setting.steps, False, i)
        return torch.from_numpy(cone), *clock.read()

    with ThreadPoolExecutor(setting.workers) as pool:
        return list(pool.map(draw, numbers))


def _gaussian(setting: Setting, case: Case) -> Draw:
    """Draws of the Gaussian with the mean and the spectra that the training cones have at the point."""
    law = setting.training.gaussian(case.point)
    return lambda numbers: law.draw(SampleStreams(case.seed, numbers).normal)


def _counted(draw: Draw, bar: Progress | Unseen, task: Any) -> Draw:
    """The same draws, with a progress bar."""

    def counted(numbers: range) -> Tensor:
        cones = draw(numbers)
        bar.advance(task, len(numbers))
        return cones

    return counted


def _ask(bench: Bench, figure: str, found: float, asked: float, *, most: bool) -> None:
    """A figure beside its target; an unknown one is left out."""
    if math.isnan(found):
        return
    reached = found <= asked if most else found >= asked
    for metric, value in (("found", found), ("asked", asked), ("reached", float(reached))):
        bench.add("asked", figure, metric, value)
