"""Follow-ups of regional amyloid PET: bridges beside regressors, and beside the best that can be.

    infield bench pet-longitudinal --checkpoints trained --records longitudinal.json

Regional vectors (26 numbers) of the synthetic law of amyloid: subjects that no row was trained on, 2.5 years (errors
also at 1 and 4). Errors are shares of persistence's, against the measured follow-up and against the truth of the law.
Intervals of 90 % are those between the least and the largest of 19 draws, which cover exactly .90 where the law is
right; they are for the measured follow-up, in thirds of the predicted change, regions pooled, and for the composite
(the mean of the regions that accumulate). The optimum is the Bayes prediction under the law itself. Rows in brackets
are negative controls: years shuffled between subjects, the baseline replaced by the population's mean, 5 plain steps.
The second cohort has other rates, a weaker tracer and noisier regions; nothing is trained on it, and it has no targets.

Images (`--parts images`): 600 subjects of `infield simulate pet` that nothing was trained on, 0.5 to 5 years; the
shipped bridge draws the regional means, shared by all slices, and a law of voxels the image (`priors.bridges.voxels`).
Beside it persistence, the regional prediction painted onto the baseline, the image of the regional regression, a U-Net.

Rows take up to four minutes of training each; `--checkpoints` keeps them and the cohorts, so that a stopped run
resumes.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Generator, Tensor

from infield.core.errors import InfieldError
from infield.datasets.pet.amyloid_law import AmyloidLaw, best_prediction
from infield.datasets.pet.brain_regions import GROUPS
from infield.pipelines.bench.targets import TargetBench
from infield.pipelines.pet.bench import longitudinal_images
from infield.pipelines.pet.bench.longitudinal_rows import (
    BROWNIAN_S,
    CLOCK,
    PLAIN,
    Draw,
    GaussianMatching,
    heteroscedastic_draws,
    residual_draws,
    trained,
)
from infield.pipelines.pet.bench.longitudinal_scores import (
    bootstrap_error,
    covered,
    fair_crps,
    root_ratio,
    square_error,
    variances,
)
from infield.pipelines.run.console import progress
from infield.priors.bridges.clocks import brownian_clock, geometric_clock
from infield.priors.bridges.region_bridge import RegionBridge

LAW = AmyloidLaw(groups=GROUPS)
SECOND = replace(LAW, capacity=0.7, rate=0.8, accumulators=0.5, reg=0.02)
"""The cohort that nothing is trained on: as `AmyloidPhantom.second_cohort` has it, with the noise of half the
counts."""

PARTS = ("regions", "images")
DRAWS, INTERVAL = 19, 2.5
TRAINING_SEED = 0
"""Of all trained rows; the seed of the bench is that of the held-out subjects."""

BROWNIAN_STEPS = 24

BESIDE = ("brownian on the Poisson clock", "poisson, plain steps")
"""Rows without a target, of fewer subjects."""

METRICS: dict[str, str] = {}
METHOD_NOTE = (
    f"poisson: {CLOCK[2]} compound steps by the learned dispersion, tau geometric from {CLOCK[0]:g} to {CLOCK[1]:g} "
    f"counts per SUVR; 'plain steps': the same network, {PLAIN} of them. brownian: the same network and training, s = "
    f"{BROWNIAN_S:g}, {BROWNIAN_STEPS} compound steps equal in t; 'on the Poisson clock' takes that one's. A target is "
    "met within 2 standard errors (bootstrap over subjects). Synthetic data. One thread."
)


def chosen(arguments: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """This bench with its options."""
    names = ("parts", "subjects", "checkpoints")
    return sys.modules[__name__], {name: getattr(arguments, name) for name in names}


def run(
    *,
    quick: bool = False,
    seed: int = 0,
    parts: list[str] | None = None,
    subjects: int | None = None,
    checkpoints: Path | None = None,
) -> TargetBench:
    """The requested parts; when quick, few subjects and hardly any training.

    Raises:
        InfieldError: The folder of checkpoints does not exist, or there are too few subjects.
    """
    if subjects is not None and not 30 <= subjects <= 600:
        raise InfieldError(where="--subjects", found=subjects, expected="30 to 600")
    if checkpoints is not None and not checkpoints.is_dir():
        raise InfieldError(where="--checkpoints", found=f"{checkpoints}", expected="a folder that exists")
    torch.set_num_threads(1)
    bench = TargetBench("pet-longitudinal", seed)
    for part in parts or PARTS:
        if part == "regions":
            _regions(bench, quick, seed, checkpoints)
        else:
            longitudinal_images.run(bench, quick=quick, seed=seed, folder=checkpoints, subjects=subjects)
    return bench


def _regions(bench: TargetBench, quick: bool, seed: int, checkpoints: Path | None) -> None:
    """3,000 subjects, 600 at 1 and 4 years and of the second cohort, fewer for the optimum."""
    subjects, best, steps, few = (240, 16, 60, 30) if quick else (3000, 120, 10_000, 5000)
    with progress() as bar:
        task = bar.add_task("trainings", total=4)
        models: dict[str, RegionBridge] = {}
        for name, number, options in (
            ("regional", few, {"regression_fraction": 1.0}),
            ("regional-hetero", few, {"regression_fraction": 1.0, "kind": GaussianMatching}),
            ("brownian", steps, {"channel": "brownian", "s": BROWNIAN_S}),
            ("poisson", steps, {}),
        ):
            models[name] = trained(LAW, name, number, TRAINING_SEED, checkpoints, **options)
            bench.add("training", name, "cpu_seconds", models[name].provenance["cpu_seconds"], "s")
            bar.advance(task)
    for years in (INTERVAL, 1.0, 4.0):
        part = 1 if years == INTERVAL else 5
        _compare(bench, models, LAW, years, subjects // part, best // part, seed)
    _compare(bench, models, SECOND, INTERVAL, subjects // 5, best // 5, seed)
    _controls(bench, models, subjects // 5, seed)


def _draws(models: dict[str, RegionBridge], seed: int) -> dict[str, Draw]:
    brownian = models["brownian"]
    same = replace(brownian, clock=brownian_clock(BROWNIAN_STEPS))

    def of(bridge: RegionBridge) -> Draw:
        return lambda x_b, years, n, generator: bridge.sample(x_b, years, n, generator)

    return {
        "regional": residual_draws(models["regional"], LAW, seed),
        "regional-hetero": heteroscedastic_draws(models["regional-hetero"]),
        "brownian": of(same),
        "brownian on the Poisson clock": of(brownian),
        "poisson": of(models["poisson"]),
        "poisson, plain steps": of(replace(models["poisson"], steps="plain", clock=geometric_clock(*CLOCK[:2], PLAIN))),
    }


def _compare(
    bench: TargetBench,
    models: dict[str, RegionBridge],
    law: AmyloidLaw,
    years: float,
    subjects: int,
    best: int,
    seed: int,
) -> None:
    """All rows at one interval; targets at 2.5 years, of the cohort of the training."""
    generator = Generator().manual_seed(1000 + seed)
    x_b, x_f, truth = (v.float() for v in law.pairs(subjects, years, Generator().manual_seed(2**20 + seed)))
    fresh = LAW.pairs(20_000, years, Generator().manual_seed(2**21 + seed))
    growth = (fresh[1] - fresh[0]).mean(0).float()
    case, judged = f"{years:g} years", years == INTERVAL and law is LAW
    case = case if law is LAW else f"second cohort, {case}"
    means = {"persistence": x_b, "population growth": x_b + growth}
    means |= {name: models[name].predict(x_b, years) for name in ("regional", "regional-hetero")}
    rows = _draws(models, seed)
    beside = {name: rows.pop(name) for name in BESIDE}
    draws = {name: draw(x_b, years, DRAWS, generator) for name, draw in rows.items()}
    means |= {name: draws[name].mean(1) for name in draws if name not in means}
    errors = {name: square_error(mean, x_f) for name, mean in means.items()}
    for name in means:
        for against, value in (("measured", x_f), ("true", truth)):
            ratio = root_ratio(square_error(means[name], value), square_error(x_b, value))
            bench.judge(case, name, f"error_over_persistence_{against}", ratio(torch.arange(subjects)))
    optimum = best_prediction(law, x_b[:best].double(), years, generator).float()
    ours = {name: root_ratio(e[:best], square_error(optimum, x_f[:best])) for name, e in errors.items()}
    ratio = root_ratio(square_error(optimum, x_f[:best]), errors["persistence"][:best])
    bench.judge(case, f"optimum, {best} subjects", "error_over_persistence_measured", ratio(torch.arange(best)))
    ratio = root_ratio(square_error(optimum, truth[:best]), square_error(x_b[:best], truth[:best]))
    bench.judge(case, f"optimum, {best} subjects", "error_over_persistence_true", ratio(torch.arange(best)))
    better = min(("regional", "regional-hetero"), key=lambda name: float(errors[name].mean()))
    high = 1.15 if judged else None
    error = bootstrap_error(ours[better], best, generator)
    bench.judge(case, better, "error_over_optimum", ours[better](torch.arange(best)), None, high, error=error)
    ratio = root_ratio(errors["poisson"], errors[better])
    error = bootstrap_error(ratio, subjects, generator)
    high = 1.05 if judged else None
    bench.judge(case, "poisson", "error_over_better_regressor", ratio(torch.arange(subjects)), None, high, error=error)
    change = (means["regional"] - x_b).mean(1)
    third = torch.bucketize(change, change.quantile(torch.tensor([1 / 3, 2 / 3])))
    for name, x in draws.items():
        _law_of(bench, case, name, x, x_f, third, judged and name == "poisson", generator)
    for name, draw in beside.items() if judged else ():
        some = slice(subjects // 5)
        x, row = draw(x_b[some], years, DRAWS, generator), f"{name}, {subjects // 5} subjects"
        ratio = root_ratio(square_error(x.mean(1), x_f[some]), square_error(x_b[some], x_f[some]))
        bench.judge(case, row, "error_over_persistence_measured", ratio(torch.arange(len(x))))
        _law_of(bench, case, row, x, x_f[some], third[some], False, generator)
    crps = {name: fair_crps(x, x_f) for name, x in draws.items()}
    for name, most in (("regional", 0.98), ("brownian", 1.0)):
        quotient = _ratio(crps["poisson"], crps[name])
        error = bootstrap_error(quotient, subjects, generator)
        bench.judge(
            case,
            "poisson",
            f"crps_over_{name}",
            quotient(torch.arange(subjects)),
            None,
            most if judged else None,
            error=error,
        )


def _ratio(a: Tensor, b: Tensor) -> Callable[[Tensor], float]:
    """Ratio of two means over subjects, as a function of their indices."""
    return lambda i: float(a[i].mean() / b[i].mean())


def _law_of(
    bench: TargetBench,
    case: str,
    name: str,
    x: Tensor,
    x_f: Tensor,
    third: Tensor,
    judged: bool,
    generator: Generator,
) -> None:
    """Coverage by third of the predicted change and of the composite, spread over skill, CRPS."""
    low, high = (0.87, 0.93) if judged else (None, None)
    inside, accumulates = covered(x, x_f).mean(1), LAW.accumulates
    for k, word in enumerate(("low", "middle", "high")):
        own = inside[third == k]
        error = float(own.std()) / math.sqrt(len(own))
        bench.judge(case, name, f"coverage_{word}_third", float(own.mean()), low, high, error=error)
    composite = covered(x[..., accumulates].mean(-1, keepdim=True), x_f[:, accumulates].mean(1, keepdim=True))[:, 0]
    error = float(composite.std()) / math.sqrt(len(composite))
    bench.judge(case, name, "coverage_composite", float(composite.mean()), low, high, error=error)
    ratio = root_ratio(variances(x), square_error(x.mean(1), x_f))
    error = bootstrap_error(ratio, len(x), generator)
    bounds = (0.95, 1.05) if judged else (None, None)
    bench.judge(case, name, "spread_over_skill", ratio(torch.arange(len(x))), *bounds, error=error)
    bench.add(case, name, "crps", float(fair_crps(x, x_f).mean()), "SUVR")


def _controls(bench: TargetBench, models: dict[str, RegionBridge], subjects: int, seed: int) -> None:
    """What must be lost: each figure of the bridge without what it needs, at 1, 2.5 and 4 years."""
    generator, n, case = Generator().manual_seed(3000 + seed), subjects // 3, "negative controls"
    years = torch.tensor([1.0, 2.5, 4.0]).repeat_interleave(n)
    x_b, x_f, _ = (v.float() for v in LAW.pairs(3 * n, years.double(), Generator().manual_seed(2**22 + seed)))
    bridge, right = models["poisson"], square_error(models["regional"].predict(x_b, years), x_f)
    shuffled = years[torch.randperm(3 * n, generator=generator)]
    population = x_b.mean(0).expand_as(x_b)
    rows = {
        "poisson": (x_b, years),
        "(years shuffled)": (x_b, shuffled),
        "(population's baseline)": (population, years),
    }
    for name, (baseline, interval) in rows.items():
        mean = bridge.sample(baseline, interval, DRAWS, generator).mean(1)
        ratio = root_ratio(square_error(mean, x_f), right)
        low, high = (None, 1.05) if name == "poisson" else (1.05, None)
        error = bootstrap_error(ratio, 3 * n, generator) if name == "poisson" else 0.0
        value = ratio(torch.arange(3 * n))
        bench.judge(case, name, "error_over_regional", value, low, high, error=error)
    few = replace(bridge, steps="plain", clock=geometric_clock(CLOCK[0], CLOCK[1], 5))
    inside = float(covered(few.sample(x_b, years, DRAWS, generator), x_f).mean())
    bench.judge(case, "(5 plain steps)", "coverage", inside, None, 0.87)
