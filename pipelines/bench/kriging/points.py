"""Scattered points to a map on the open unit square: few data a cell, and many.

Matern fields of order 1/2 and 3/2, length 0.1 and standard deviation 2, errors of 0.2. The order is given to all or to
none, and so is the noise level.
"""

from __future__ import annotations

import statistics
from functools import partial
from math import log

from infield.pipelines.bench.kriging.fields import Problem, on_unit_square
from infield.pipelines.bench.kriging.oracle import dense_kriging, isotropic
from infield.pipelines.bench.kriging.ours import MAP, noise_log_error
from infield.pipelines.bench.kriging.peers import Answer
from infield.pipelines.bench.kriging.processes import Outcome
from infield.pipelines.bench.kriging.scores import far_from_data, of_field, rim_of
from infield.pipelines.bench.kriging.settings import (
    DEFAULT,
    OURS,
    TRUE_LAW,
    Settings,
    enter,
    enter_ours,
    enter_peers,
    labels,
)
from infield.pipelines.bench.kriging.tables import PartsBench

LENGTH, SD, NOISE_SD = 0.1, 2.0, 0.2
ORDERS = {"1/2": 0.5, "3/2": 1.5}
INTERVAL = 1.645
"""Standard errors on each side of an interval of 90 %."""

PEERS = ("gpboost", "scikit-learn", "gpytorch", "pykrige", "pykrige-32", "gstools")


def run(bench: PartsBench, settings: Settings) -> None:
    """2,000 points to 128 x 128."""
    data, side = (80, 16) if settings.quick else (2000, 128)
    orders = {"3/2": 1.5} if settings.quick else ORDERS
    for row, (name, nu) in enumerate(orders.items()):
        law = isotropic(nu, LENGTH, SD)
        wanted = {
            group: stated for group, stated in _groups(name, nu, settings.quick).items() if settings.includes(group)
        }
        for number in range(settings.truths if wanted else 0):
            pending = {group: stated for group, stated in wanted.items() if bench.pending(f"{group} #{number}")}
            if not pending:
                continue
            problem = on_unit_square(law, data, side, NOISE_SD, settings.rng(1, row, number))
            mean, sd = dense_kriging(law, problem.points, problem.values, NOISE_SD**2, problem.targets)
            exact = Answer(mean, sd)
            for group, stated in pending.items():
                case, score = f"{group} #{number}", partial(scores, problem, exact)
                enter(bench, case, TRUE_LAW, Outcome(exact), score)
                enter_ours(bench, case, problem.stating(**stated), settings, score, *MAP)
                enter_ours(bench, case, problem.stating(**stated), settings, score, method=DEFAULT)
                enter_peers(bench, case, number, problem.stating(**stated), settings, score, *PEERS)
                bench.finish(case)
        for group in wanted:
            judge(bench, group, nu)


def run_dense_cells(bench: PartsBench, settings: Settings) -> None:
    """20,000 points to 64 x 64: many data of one cell, whose residuals hang together."""
    data, side = (300, 8) if settings.quick else (20_000, 64)
    law, group = isotropic(1.5, LENGTH, SD), f"dense-cells: nu 3/2, {data:,} points to {side} x {side}"
    if not settings.includes(group):
        return
    for number in range(settings.truths):
        case = f"{group} #{number}"
        if not bench.pending(case):
            continue
        problem = on_unit_square(law, data, side, NOISE_SD, settings.rng(2, number), refine=16)
        mean, sd = dense_kriging(law, problem.points, problem.values, NOISE_SD**2, problem.targets)
        exact = Answer(mean, sd)
        score = partial(scores, problem, exact)
        enter(bench, case, TRUE_LAW, Outcome(exact), score)
        enter_ours(bench, case, problem.stating(noise_sd=NOISE_SD, order=None), settings, score, *MAP)
        enter_peers(bench, case, number, problem.stating(noise_sd=NOISE_SD, order=1.5), settings, score, "gpboost")
        bench.finish(case)
    bench.judge(group, "rmse_over_kriging", bench.ratio(group, OURS, [TRUE_LAW], "rmse"), 1.02)
    cover, error = (figure(group, OURS, "coverage_90") for figure in (bench.mean, bench.error))
    bench.judge(group, "coverage_90", cover, 0.92, 0.88, error=error)


def _groups(name: str, nu: float, quick: bool) -> dict[str, dict[str, float | None]]:
    return {f"points: nu {name}, {arm}": stated for arm, stated in arms(nu, quick).items()}


def arms(nu: float, quick: bool) -> dict[str, dict[str, float | None]]:
    """What is given: the order or not, the noise level or not."""
    if quick:
        return {"order free, noise known": {"order": None, "noise_sd": NOISE_SD}}
    return {
        f"order {a}, noise {b}": {"order": nu if a == "known" else None, "noise_sd": NOISE_SD if b == "known" else None}
        for a in ("free", "known")
        for b in ("known", "estimated")
    }


def scores(problem: Problem, exact: Answer, answer: Answer) -> dict[str, float]:
    """Of the noise-free field on the grid, and over those of kriging under the true law."""
    assert problem.truth is not None
    rim, far = rim_of(problem.axes), far_from_data(problem.grid_places, problem.points)
    found, right = (of_field(a.mean, a.sd, problem.truth, rim, far) for a in (answer, exact))
    ratios = {"rmse_over_kriging": found["rmse"] / right["rmse"], "sd_over_kriging": found.pop("sd") / right["sd"]}
    error = noise_log_error(getattr(answer, "attributes", None) or {})
    if error is not None and answer.noise_sd is not None:
        ratios["noise_sd_in_interval"] = float(abs(log(answer.noise_sd / NOISE_SD)) <= INTERVAL * error)
    return found | ratios


def judge(bench: PartsBench, group: str, nu: float) -> None:
    """Targets of this arm."""
    named = labels(*PEERS)
    for metric in ("rmse", "crps"):
        bench.judge(group, f"{metric}_over_best_peer", bench.ratio(group, OURS, named, metric), 1.02, peers=named)
    for metric in ("coverage_90", "coverage_90_rim"):
        cover, error = (figure(group, OURS, metric) for figure in (bench.mean, bench.error))
        bench.judge(group, metric, cover, 0.92, 0.88, peers=named, error=error)
    gpboost = labels("gpboost")
    cpu = bench.ratio(group, OURS, gpboost, "cpu_seconds")
    bench.judge(group, "cpu_seconds_over_gpboost", cpu, 2.0, peers=gpboost)
    bench.judge(group, "memory_over_import", bench.mean(group, OURS, "memory_over_import"), 400.0)
    if "estimated" in group and nu == 1.5:
        found = list(bench.values(group, OURS, "noise_sd").values())
        off = abs(statistics.median(found) / NOISE_SD - 1) if found else None
        bench.judge(group, "noise_sd_relative_error_of_median", off, 0.1)
    elif "estimated" in group:  # the target is for 100 truths; fewer are less precise
        bench.judge(group, "noise_sd_in_interval", bench.mean(group, OURS, "noise_sd_in_interval"), 0.97, 0.8)
