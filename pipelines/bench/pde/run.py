"""Inverse problems of partial differential equations at 64 x 64, through the solvers themselves.

A prior is trained on fields alone (source of Poisson and Helmholtz, level set of the two-phase permeability of Darcy,
first vorticity of Navier-Stokes); data are 128 noisy, or 500 all but noise-free, point values of the solution. Every
method draws from the same prior, through the same solver. Figures are of the field, not of the solution or the level
set.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from typing import Any, cast

import torch
from torch import Generator, Tensor

from infield.core.errors import InfieldError
from infield.physics.noise.registry import GaussianNoise
from infield.physics.pde.dirichlet import interior
from infield.pipelines.bench.pde import peers
from infield.pipelines.bench.pde.level_set import level_set_chains
from infield.pipelines.bench.pde.problems import (
    PROBLEMS,
    SETTINGS,
    Case,
    Problem,
    Setting,
    exact_prior,
    learned_prior,
    untrained_prior,
)
from infield.pipelines.bench.records import Bench
from infield.pipelines.options import as_option
from infield.pipelines.run.console import progress
from infield.posterior.diagnostics.calibration import coverage, crps, ranks, relative_l2, spread_skill
from infield.posterior.samplers.base import Sampler
from infield.posterior.samplers.exact import Exact
from infield.posterior.samplers.faps import FAPS
from infield.posterior.samplers.faps_published import FAPSPublished
from infield.priors.base import FlowPrior
from infield.priors.covariance.base import Covariance
from infield.priors.random_fields.spectral import TwoPhaseField

METRICS = {
    "relative_l2": ".3f",
    "misclassified": ".3f",
    "crps": ".4f",
    "spread_skill": ".2f",
    "coverage_90": ".3f",
    "solver_calls": ".0f",
    "velocity_calls": ".0f",
    "seconds": ".1f",
}
SUMMARY = statistics.mean

CASES = {"poisson": 4, "helmholtz": 4, "darcy": 3, "navier-stokes": 2}
DRAWS, STEPS = 16, 100
OUR_SHARE, SLOW_SHARE = 4.0, 0.5
"""Draws of ours, and of the slow methods, a draw of others: ours linearises a solver once for all of its draws."""

LAW_STEPS = 1000
"""Steps of the chains under the true distribution."""

QUICK_POINTS = 24

SLOW = ("faps-published", "flow-dps")

METHOD_NOTE = (
    "Relative L2 of the mean of the draws; misclassified: share of points where that mean is on the wrong side of the "
    "threshold (two-phase fields); CRPS in standard deviations of the field; spread over skill and coverage are pooled "
    "over the cases. Solver calls: A, and A^T or vector-Jacobian products, a draw; a pass forth and back is 2. "
    "faps-published: K 20, M 10, J 40, rank 32 from 256 draws, h in the row's name (4e-5 is the paper's). "
    "faps: 20 levels, for Navier-Stokes 1 (its prior is Gaussian); faps 1 level: the Gaussian with the prior's "
    "moments. "
    f"Cases: {', '.join(f'{problem} {cases}' for problem, cases in CASES.items())}. Draws: "
    f"{int(OUR_SHARE * DRAWS)} of faps and exact, {int(SLOW_SHARE * DRAWS)} of "
    f"{' and '.join(SLOW)} (half of that for Navier-Stokes), {DRAWS} of others. "
    f"Peers: {STEPS} steps, coordinates in which the source is white. Noise-free: variance 1e-6. Darcy: the prior is "
    "one of the distance to the interface; its smooth step precedes the solver, and its error is in "
    "the noise, for peers as white noise. 'chains (true law)' use the field's distribution and no network. One thread."
)


@dataclass(frozen=True)
class Draws:
    """What a method returns: what the prior is one of, shape `(n, channel, *space)`, and what a draw cost."""

    sampled: Tensor
    solver_calls: float
    velocity_calls: float


Method = Callable[[Case, int, int], Draws]
"""(case, draws, seed) -> draws."""


@dataclass(frozen=True)
class Size:
    """How much is run.

    Arguments:
        points: Along each axis.
        cases: Of every problem; None for those of `CASES`.
        draws: Of most methods, see `draws_of`.
        steps: Of the peers.
        quick: Whether priors have learned nothing, and samplers take next to no steps.
    """

    points: int = 64
    cases: int | None = None
    draws: int = DRAWS
    steps: int = STEPS
    quick: bool = False


QUICK = Size(points=QUICK_POINTS, cases=1, draws=4, steps=6, quick=True)


def chosen(arguments: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """This bench, with its options."""
    options = {"problems": arguments.problem, "methods": arguments.methods}
    return sys.modules[__name__], {name: value for name, value in options.items() if value is not None}


def run(
    *,
    quick: bool = False,
    seed: int = 0,
    problems: Sequence[str] = PROBLEMS,
    methods: Sequence[str] | None = None,
    size: Size | None = None,
) -> Bench:
    """Run every method on every case of every problem and setting.

    Arguments:
        quick: A 24 x 24 grid, untrained priors, one case: to check that it runs.
        seed: Of truths, sensors, noise and draws.
        problems: Which, of `PROBLEMS`.
        methods: Which; None for all.
        size: Points, cases, draws.
    """
    torch.set_num_threads(1)
    for name in problems:
        if name not in PROBLEMS:
            raise InfieldError(where=f"--problem {name}", expected=f"one of {', '.join(PROBLEMS)}")
    size = size or (QUICK if quick else Size())
    _check_methods(methods, [Problem(name, size.points) for name in problems], size)
    bench = Bench("pde", seed)
    with progress() as bar:
        task = bar.add_task("pde", total=len(problems) * len(SETTINGS))
        for name in problems:
            problem = Problem(name, size.points)
            prior: FlowPrior = untrained_prior(problem) if size.quick else learned_prior(problem)
            for setting in SETTINGS:
                _run_setting(bench, problem, setting, prior, size, seed, methods)
                bar.advance(task)
    return bench


def _check_methods(methods: Sequence[str] | None, problems: Sequence[Problem], size: Size) -> None:
    """Refuse the beginning of a name that no method of these problems has, before anything is trained."""
    if methods is None:
        return
    of_each = (
        methods_of(problem, setting, cast(FlowPrior, None), size) for problem in problems for setting in SETTINGS
    )
    names = list(dict.fromkeys(name for methods in of_each for name in methods))  # names need no prior
    for wanted in methods:
        if not wanted or not any(name.startswith(wanted) for name in names):
            raise InfieldError(
                where="--methods",
                found=f"'{wanted}'",
                expected=f"the beginning of one of {', '.join(names)}",
            )


def methods_of(problem: Problem, setting: Setting, prior: FlowPrior, size: Size) -> dict[str, Method | str]:
    """All methods by name; in place of one that does not apply, the reason."""
    steps, h = size.steps, langevin_step(setting)
    published = {"levels": 20, "flow_steps": 10, "langevin_steps": 40}
    ours = our_sampler(problem, setting)
    if size.quick:
        published = {"levels": 2, "flow_steps": 2, "langevin_steps": 2, "rank_draws": 8, "rank": 4}
        ours = FAPS(levels=3, steps=6, rank=8)
    nonlinear = "linear only"
    peer = partial(_peer, prior)
    found: dict[str, Method | str] = {
        "faps": partial(_ours, ours, prior),
        f"faps-published h={h:g}": partial(_ours, _Published(step=h, **published), prior),
        "flow-dps": partial(peer, peers.flow_dps, steps),
        "deepinv-dps": partial(
            peer, partial(peers.deepinv_diffusion, "norm", weight=dps_weight(problem, setting)), steps
        ),
        "deepinv-moment-matching": partial(peer, partial(peers.deepinv_diffusion, "moment-matching"), steps)
        if problem.linear
        else nonlinear,
    }
    missing = "not installed" if find_spec("azula") is None else ""
    found["azula-mmps"] = missing or (partial(peer, peers.azula_mmps, steps) if problem.linear else nonlinear)
    found["azula-tds"] = missing or partial(peer, peers.azula_tds, steps)
    if problem.name == "darcy":
        chains = partial(_true_law, problem, LAW_STEPS if not size.quick else 2)
        one = partial(_ours, replace(ours, levels=1), prior)
        found = {"chains (true law)": chains, "faps": found["faps"], "faps 1 level": one, **found}
    if problem.linear:
        exact = exact_prior(problem)
        found = {
            "exact (true law)": partial(_ours, Exact(), exact),
            "faps (true law's velocity)": partial(_ours, FAPS(levels=ours.levels), exact),
            **found,
        }
    return found


def our_sampler(problem: Problem, setting: Setting) -> FAPS:
    """Our setting for a problem, chosen on other cases than the bench's (seed 900).

    One level, in which the prior is the Gaussian with its moments, is exact for the law of Navier-Stokes' fields. On
    the distance to Darcy's interface the posterior hardly depends on the number of levels (128 noisy data: CRPS 0.100,
    0.102 and 0.100 with 1, 4 and 20), on the field itself it did: there the one covariance of the local conditional
    froze phases too early (0.28 with 1 level, 0.40 with 20). Noise-free data need a rank that loses none of their
    information.
    """
    if problem.linear:
        return FAPS(levels=20)
    rank = 128 if setting.data <= 128 else 256
    return FAPS(levels=20, steps=100, rank=rank) if problem.name == "darcy" else FAPS(levels=1, steps=60, rank=rank)


def langevin_step(setting: Setting) -> float:
    """Step h of FAPS as published: the paper's where it is stable, else one that is.

    Its chain is stable up to h of about 2 / (e / R), e the largest eigenvalue of the covariance of the normalised
    solution at the sensors and R the variance of the noise: 6e-5 for 128 noisy data of a smooth solution, 1e-8 for 500
    noise-free ones. At 1e-4 it diverged for Poisson, at 1e-7 for its noise-free data.
    """
    return 2e-9 if setting.noise_variance < 1e-4 else 4e-5


def dps_weight(problem: Problem, setting: Setting) -> float:
    """Of deepinv's DPS under its guidance `norm`: of 1, 10 and 100 the best on other cases, there is no right one.

    For Darcy 300 and 1000 were tried as well, and were worse.
    """
    return 100.0 if setting.noise_variance < 1e-4 or problem.name == "darcy" else 10.0


class _Published(FAPSPublished):
    """With the preconditioner of a prior kept from case to case, as the authors' script does."""

    _kept: dict[int, Covariance] = {}

    def preconditioner(self, prior: FlowPrior) -> Covariance:
        key = id(prior.covariance)
        if key not in self._kept:
            self._kept[key] = super().preconditioner(prior)
        return self._kept[key]


def _true_law(problem: Problem, steps: int, case: Case, n: int, seed: int) -> Draws:
    assert isinstance(problem.law, TwoPhaseField) and problem.step is not None
    g, calls = level_set_chains(problem.law, case.of_field, n, Generator().manual_seed(seed), steps=steps)
    return Draws(g, calls, 0.0)


def _ours(sampler: Sampler, prior: FlowPrior, case: Case, n: int, seed: int) -> Draws:
    posterior = sampler(prior, case.sampled, n, Generator().manual_seed(seed))
    return Draws(posterior.samples, posterior.cost["operator_calls"], posterior.cost["velocity_calls"])


def _peer(prior: FlowPrior, peer: peers.Peer, steps: int, case: Case, n: int, seed: int) -> Draws:
    white = GaussianNoise(case.sampled.noise.variance.mean())  # type: ignore[attr-defined]
    problem = peers.WhitenedProblem(prior, replace(case.sampled, noise=white))
    with torch.no_grad(), open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
        fields = problem.fields(peer(problem, n, seed, steps))
    return Draws(fields, **problem.calls(n))


def _run_setting(
    bench: Bench,
    problem: Problem,
    setting: Setting,
    prior: FlowPrior,
    size: Size,
    seed: int,
    chosen: Sequence[str] | None,
) -> None:
    cases = [measured(problem, setting, seed, case) for case in range(size.cases or CASES[problem.name])]
    for name, method in methods_of(problem, setting, prior, size).items():
        if chosen is not None and not any(name.startswith(wanted) for wanted in chosen):
            continue
        row = f"{problem.name} {setting.name}: {name}"
        if isinstance(method, str):
            bench.add("0", row, "absent", method)
            continue
        found: list[Draws] = []
        for number, case in enumerate(cases):
            start = time.perf_counter()
            try:
                draws = method(case, draws_of(name, problem, size), 1000 * seed + number)
            except (InfieldError, RuntimeError) as error:  # torch's own, where a peer's numbers are none
                reason = error.render(as_option) if isinstance(error, InfieldError) else str(error)
                _add_failure(bench, f"{number}", row, "stopped", reason)
                break
            if failure := divergence(draws.sampled, problem):
                _add_failure(bench, f"{number}", row, "diverged", failure)
                break
            _add_case(bench, f"{number}", row, problem, case, draws, time.perf_counter() - start)
            found.append(draws)
        else:
            _add_calibration(bench, row, problem, cases, found, seed)


def draws_of(method: str, problem: Problem, size: Size) -> int:
    """How many draws a method makes."""
    if method.startswith(SLOW):
        return max(int(SLOW_SHARE * size.draws) // (2 if problem.name == "navier-stokes" else 1), 2)
    return int(OUR_SHARE * size.draws) if method.startswith(("faps", "exact", "chains")) else size.draws


def _add_failure(bench: Bench, case: str, row: str, what: str, why: str) -> None:
    """A word for the table, and the whole reason for the file."""
    bench.add(case, row, "absent", what)
    bench.add(case, row, "absent", f"{what} in case {case}: {why}")


def measured(problem: Problem, setting: Setting, seed: int, case: int) -> Case:
    """One case: truth, sensors and noise."""
    generator = Generator().manual_seed(1_000_003 * (seed + 1) + case)
    return problem.measure(problem.truth(seed, case), setting, generator)


def divergence(sampled: Tensor, problem: Problem) -> str:
    """Why draws are not of what the prior is one of; empty where they may be."""
    if not torch.isfinite(sampled).all():
        return "NaN or infinity"
    size = float(sampled.square().mean().sqrt() / problem.sampled.std())
    return f"draws of {size:.0e} standard deviations of the prior" if size > 100 else ""


def _add_case(bench: Bench, number: str, row: str, problem: Problem, case: Case, draws: Draws, seconds: float) -> None:
    fields = problem.field(draws.sampled)
    truth, mean = case.truth, fields.mean(0)
    bench.add(number, row, "relative_l2", relative_l2(mean, truth))
    if problem.threshold is not None:
        wrong = (mean > problem.threshold) != (truth > problem.threshold)
        bench.add(number, row, "misclassified", float(wrong.double().mean()))
    bench.add(number, row, "crps", crps(fields, truth) / problem.field_deviation, "field sd")
    bench.add(number, row, "solver_calls", draws.solver_calls)
    bench.add(number, row, "velocity_calls", draws.velocity_calls)
    bench.add(number, row, "seconds", seconds, "s")


def _add_calibration(
    bench: Bench, row: str, problem: Problem, cases: list[Case], found: list[Draws], seed: int
) -> None:
    """Spread over skill and coverage of all cases together, the same number under each.

    The sources of Poisson and Helmholtz are zero on the boundary: nothing is unknown there, and no rank is informative.
    """
    truths = torch.stack([case.truth for case in cases])
    fields = torch.stack([problem.field(draws.sampled) for draws in found])
    if problem.linear:
        truths, fields = interior(truths, 2), interior(fields, 2)
    generator = Generator().manual_seed(seed)
    rank = torch.stack([ranks(x, truth, generator) for x, truth in zip(fields, truths, strict=True)])
    inside = coverage(rank, fields.shape[1], 0.9, generator)
    for number in range(len(cases)):
        bench.add(f"{number}", row, "spread_skill", spread_skill(fields, truths))
        bench.add(f"{number}", row, "coverage_90", inside)
