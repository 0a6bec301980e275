"""20,000 points to 512 x 512, and 100,000 to 1024 x 1024: deterministic mean and standard deviation, joint draws.

The reference is dense kriging under the true law at 300 cells. Its own posterior gives the expected RMSE of any other
mean m: sqrt(E sd^2 + E (m - mean)^2), which scatters far less than the RMSE of one truth.
"""

from __future__ import annotations

import math
from functools import partial

import numpy as np

from infield.pipelines.bench.kriging import peer_draws
from infield.pipelines.bench.kriging.fields import Problem, on_unit_square
from infield.pipelines.bench.kriging.oracle import dense_kriging, isotropic
from infield.pipelines.bench.kriging.ours import MAP, law_found, reconstruct
from infield.pipelines.bench.kriging.peers import PEERS, Answer
from infield.pipelines.bench.kriging.processes import Outcome, of_peer
from infield.pipelines.bench.kriging.scores import coverage, crps, rmse
from infield.pipelines.bench.kriging.settings import OURS, TRUE_LAW, Settings, enter, labels
from infield.pipelines.bench.kriging.tables import PartsBench

OWN = "infield over kriging under its own law"
LENGTH, SD, NOISE_SDS, CELLS, DRAWS = 0.1, 2.0, (0.2, 2.0), 300, 64


def run(bench: PartsBench, settings: Settings) -> None:
    """One truth a noise level; costs of larger ones, and slopes, with `full`."""
    data, side = (300, 16) if settings.quick else (20_000, 512)
    draws = 8 if settings.quick else DRAWS
    law = isotropic(1.5, LENGTH, SD)
    for row, noise_sd in enumerate(NOISE_SDS[:1] if settings.quick else NOISE_SDS):
        group = f"large: {data:,} points to {side} x {side}, noise {noise_sd:g}"
        if not settings.includes(group):
            continue
        if not bench.pending(group):
            _judge(bench, group, row == 0, draws)
            continue
        rng = settings.rng(3, row)
        problem = on_unit_square(law, data, side, noise_sd, rng, refine=8 if settings.quick else 4)
        cells = rng.choice(side**2, min(CELLS, side**2), replace=False)
        exact = Answer(*dense_kriging(law, problem.points, problem.values, noise_sd**2, problem.targets[cells]))

        score = partial(of_map, problem, cells, exact)
        enter(bench, group, TRUE_LAW, Outcome(exact), partial(at_cells, problem, cells, exact))
        stated = problem.stating(noise_sd=noise_sd, order=None)
        ours = reconstruct(stated, settings.limits, *MAP, in_process=settings.quick)
        enter(bench, group, OURS, ours, score)
        _under_own_law(bench, group, problem, cells, noise_sd, ours)
        for peer in settings.chosen("gpboost", "pykrige-32"):
            known = problem.stating(noise_sd=noise_sd, order=1.5)  # its search for the order takes minutes to hours
            enter(bench, group, peer.label, of_peer(peer, known, settings.limits), score)
        if row == 0:
            _draws(bench, group, stated, settings, cells, exact, draws)
        bench.finish(group)
        _judge(bench, group, row == 0, draws)
    if settings.full:
        _costs(bench, settings)


def _judge(bench: PartsBench, group: str, drawn: bool, draws: int) -> None:
    gpboost = labels("gpboost")
    cpu = bench.ratio(group, OURS, gpboost, "cpu_seconds")
    same = bench.mean(group, OWN, "sd_over_kriging") is not None
    for metric, high, low in (("rmse_over_kriging", 1.01, None), ("sd_over_kriging", 1.02, 0.98)):
        bench.judge(group, metric, bench.mean(group, OWN if same else OURS, metric), high, low)
    bench.judge(group, "cpu_seconds_over_gpboost", cpu, 1.1, peers=gpboost)
    bench.judge(group, "memory_over_import", bench.mean(group, OURS, "memory_over_import"), 400.0)
    if drawn:
        mine, maps = (bench.mean(group, m, "cpu_seconds") for m in (f"{OURS}, {draws} joint draws", OURS))
        bench.judge(group, "cpu_seconds_of_draws_over_map", mine / maps if mine and maps else None, 20.0)


def _under_own_law(
    bench: PartsBench, group: str, problem: Problem, cells: np.ndarray, noise_sd: float, ours: Outcome
) -> None:
    """Our map over dense kriging under the law that we fitted: what the approximations alone cost."""
    law = None if ours.refused is not None else law_found(ours.answer.attributes)
    if law is None:
        return
    points, values, at = problem.points, problem.values, problem.targets[cells]
    own = Answer(*dense_kriging(law, points, values, noise_sd**2, at, "constant"))
    here = Answer(ours.answer.mean[cells], ours.answer.sd[cells])
    enter(bench, group, OWN, Outcome(here), partial(at_cells, problem, cells, own))


def _draws(
    bench: PartsBench, group: str, problem: Problem, settings: Settings, cells: np.ndarray, exact: Answer, draws: int
) -> None:
    """64 joint draws of ours, and of the peers that support them."""

    def of_samples(answer: Answer) -> dict[str, float]:
        assert answer.samples is not None
        mean, sd = answer.samples[:, cells].mean(0), answer.samples[:, cells].std(0, ddof=1)
        return {"sd_over_kriging": _rms(sd) / _rms(exact.sd), "rmse_over_kriging": _expected(mean, exact)}

    options = ("--samples", str(draws), "--no-validation")
    outcome = reconstruct(problem, settings.limits, *options, in_process=settings.quick, draws=True)
    enter(bench, group, f"{OURS}, {draws} joint draws", outcome, of_samples)
    for name, peer in peer_draws.PEERS.items():
        if name in settings.peers:
            enter(
                bench, group, f"{peer.label}, {draws} joint draws", of_peer(peer, problem, settings.limits), of_samples
            )


def _costs(bench: PartsBench, settings: Settings) -> None:
    """What larger files cost, and the slope of the cost from 10^3 to 10^5 data on one grid."""
    law = isotropic(1.5, LENGTH, SD)
    sizes = {"100,000 points to 1024 x 1024": (100_000, 1024)}
    sizes |= {f"{data:,} points to 256 x 256": (data, 256) for data in (1000, 10_000, 100_000)}
    for row, (name, (data, side)) in enumerate(sizes.items()):
        if not settings.includes(f"large: {name}") or not bench.pending(f"large: {name}"):
            continue
        problem = on_unit_square(law, data, side, NOISE_SDS[0], settings.rng(4, row), refine=2 if side > 512 else 8)
        stated = problem.stating(noise_sd=NOISE_SDS[0], order=None)
        outcomes = {OURS: reconstruct(stated, settings.limits, *MAP)}
        if "gpboost" in settings.peers:
            known = problem.stating(noise_sd=NOISE_SDS[0], order=1.5)
            outcomes[PEERS["gpboost"].label] = of_peer(PEERS["gpboost"], known, settings.limits)
        for method, outcome in outcomes.items():
            enter(bench, f"large: {name}", method, outcome, partial(_errors, problem))
        bench.finish(f"large: {name}")
    for method in (OURS, *labels("gpboost")):
        ends = [bench.mean(f"large: {d} points to 256 x 256", method, "cpu_seconds") for d in ("1,000", "100,000")]
        if ends[0] and ends[1]:
            bench.scores("large: 1,000 to 100,000 points", method, {"slope": math.log10(ends[1] / ends[0]) / 2})


def of_map(problem: Problem, cells: np.ndarray, exact: Answer, answer: Answer) -> dict[str, float]:
    """Errors of a whole map, and its distance from kriging at some cells."""
    return _errors(problem, answer) | at_cells(
        problem, cells, exact, Answer(answer.mean[cells], answer.sd[cells]), False
    )


def at_cells(
    problem: Problem, cells: np.ndarray, exact: Answer, answer: Answer, errors: bool = True
) -> dict[str, float]:
    """Distance from kriging of an answer at these cells alone."""
    assert problem.truth is not None
    found = {"rmse_over_kriging": _expected(answer.mean, exact), "sd_over_kriging": _rms(answer.sd) / _rms(exact.sd)}
    if errors:
        truth = problem.truth[cells]
        found |= {"rmse": rmse(answer.mean, truth), "coverage_90": coverage(answer.mean, answer.sd, truth)}
    return found


def _errors(problem: Problem, answer: Answer) -> dict[str, float]:
    assert problem.truth is not None
    return {
        "rmse": rmse(answer.mean, problem.truth),
        "crps": crps(answer.mean, answer.sd, problem.truth),
        "coverage_90": coverage(answer.mean, answer.sd, problem.truth),
    }


def _expected(mean: np.ndarray, exact: Answer) -> float:
    """RMSE of a mean over that of the exact one, expected under the exact posterior."""
    return math.hypot(_rms(exact.sd), _rms(mean - exact.mean)) / _rms(exact.sd)


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt((values**2).mean()))
