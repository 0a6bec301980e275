"""Fields whose hyperparameters are drawn from a stated prior, few data each: are the intervals honest on average?

Prior: log of the length (over the side of the square) normal about log 0.2 with sd 0.5, log of the field's standard
deviation about 0 with sd 0.5, log of the noise level about log 0.2 with sd 0.4, order 1/2, 3/2 or 5/2; 30 to 300 data.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kstest, norm

from infield.pipelines.bench.kriging.fields import Problem, at_places
from infield.pipelines.bench.kriging.oracle import dense_kriging, isotropic
from infield.pipelines.bench.kriging.ours import reconstruct
from infield.pipelines.bench.kriging.peers import Answer
from infield.pipelines.bench.kriging.processes import Outcome
from infield.pipelines.bench.kriging.scores import coverage, rim_of
from infield.pipelines.bench.kriging.settings import OURS, TRUE_LAW, Settings
from infield.pipelines.bench.kriging.tables import PartsBench

FIELDS, SIDE, LEVELS = 20, 24, (50, 80, 95)
"""Fields for each of the requested truths, 10 by default; cells along a side; central intervals."""

METHODS = {
    OURS: ("--no-validation", "--hyper", "sample"),
    f"{OURS} --hyper plug-in": ("--no-validation", "--hyper", "plug-in"),
}
PLACES = ("anywhere", "rim")
"""Cells of the ranks, one per field: any cell, and one of the boundary."""


def run(bench: PartsBench, settings: Settings) -> None:
    """All fields, the draws of each in this process: costs are not needed."""
    fields = 2 if settings.quick else FIELDS * settings.truths
    group = "calibration: fields from the prior"
    if not settings.includes(group):
        return
    for number in range(fields):
        if not bench.pending(f"{group} #{number}"):
            continue
        rng = settings.rng(8, number)
        problem, exact = _drawn(rng)
        cells = dict(zip(PLACES, _cells(problem, rng), strict=True))
        outcomes = {TRUE_LAW: Outcome(exact)}
        for method, options in METHODS.items():
            draws = ("--samples", "8" if settings.quick else "64", "--seed", str(number))
            outcomes[method] = reconstruct(problem, settings.limits, *draws, *options, in_process=True, draws=True)
        for method, outcome in outcomes.items():
            _enter(bench, f"{group} #{number}", method, problem, outcome, cells, rng)
        bench.finish(f"{group} #{number}")
    for method in (TRUE_LAW, *METHODS):
        ranks = [list(bench.values(group, method, f"rank_{place}").values()) for place in PLACES]
        if not all(ranks):
            continue
        p = min(1.0, len(PLACES) * min(kstest(values, "uniform").pvalue for values in ranks))
        bench.scores(group, method, {"rank_p_value": p})
    bench.judge(group, "rank_p_value", bench.mean(group, OURS, "rank_p_value"), 1.0, 0.01)
    for level in LEVELS:
        values = list(bench.values(group, OURS, f"coverage_{level}").values())
        error = np.std(values, ddof=1) / len(values) ** 0.5 if len(values) > 1 else 0.0
        mean = float(np.mean(values)) if values else None
        bench.judge(group, f"coverage_{level}", mean, level / 100 + 3 * error, level / 100 - 3 * error)


def _drawn(rng: np.random.Generator) -> tuple[Problem, Answer]:
    length, sd, noise_sd = (float(np.exp(rng.normal(np.log(m), s))) for m, s in ((0.2, 0.5), (1, 0.5), (0.2, 0.4)))
    law, data = isotropic(float(rng.choice([0.5, 1.5, 2.5])), length, sd), int(rng.integers(30, 301))
    axis, places = np.linspace(0, 1, SIDE), rng.random((data, 2))
    problem = Problem(places, np.zeros(data), (axis, axis))
    values = at_places(law, np.concatenate([places, problem.grid_places]), rng)
    seen = values[:data] + noise_sd * rng.standard_normal(data)
    problem = Problem(places, seen, (axis, axis), noise_sd=noise_sd, truth=values[data:])
    return problem, Answer(*dense_kriging(law, places, seen, noise_sd**2, problem.targets))


def _cells(problem: Problem, rng: np.random.Generator) -> tuple[int, int]:
    rim = np.flatnonzero(rim_of(problem.axes))
    return int(rng.integers(len(problem.grid_places))), int(rng.choice(rim))


def _enter(bench: PartsBench, case: str, method: str, problem: Problem, outcome: Outcome, cells: dict[str, int],
           rng: np.random.Generator) -> None:  # fmt: skip
    """Coverage over the field, and where the truth of a cell lies in its posterior, from 0 to 1."""
    if outcome.refused is not None:
        bench.refuse(case, method, outcome.refused)
        return
    answer, truth = outcome.answer, problem.truth
    assert truth is not None
    samples: NDArray[np.float64] | None = answer.samples
    found = {}
    for level in LEVELS:
        if samples is None:
            found[f"coverage_{level}"] = coverage(answer.mean, answer.sd, truth, level / 100)
        else:
            found[f"coverage_{level}"] = float((np.abs(_rank(samples, truth, rng) - 0.5) <= level / 200).mean())
    for name, cell in cells.items():
        if samples is None:
            place = float(norm.cdf((truth[cell] - answer.mean[cell]) / answer.sd[cell]))
        else:
            place = float(_rank(samples[:, [cell]], truth[[cell]], rng)[0])
        found[f"rank_{name}"] = place
    bench.scores(case, method, found)


def _rank(samples: NDArray[np.float64], truth: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """Uniform on [0, 1] where truth and samples have one law, Talts et al. (2018); ranks spread by a uniform number."""
    return ((samples < truth).sum(0) + rng.random(truth.shape)) / (len(samples) + 1)
