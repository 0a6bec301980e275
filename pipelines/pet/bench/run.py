"""Counts of emission tomography to a rate: draws, images of scanners, NIFTy, and a long chain as reference.

    infield bench pet --truths 10 --keep cases.json --records pet.json

Parts: `counts` (64 x 64, 60 angles, 200,000, 20,000 and 4,000 counts, the lower ones by binomial thinning of the
highest), `chain` (the same at 32 x 32 and 30 angles, beside Metropolis chains with a dense preconditioner) and
`projector` (adjoint, analytic disc, seconds beside deepinv's Tomography). The log rate has a Matern 3/2 law of length
15 mm and standard deviation 0.8, which all Bayesian methods are given; 20 % of the counts are background; truths are
drawn and projected on a grid twice as fine. A run with `--keep` that was stopped resumes after the last finished case.
The peer: pip install nifty jax.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from rich.table import Table
from torch import Generator, Tensor

from infield.core.errors import InfieldError
from infield.core.randomness import SampleStreams
from infield.pipelines.bench.kept_records import KeptBench
from infield.pipelines.bench.kriging.tables import group_of
from infield.pipelines.bench.records import Bench, Record, wide_console
from infield.pipelines.pet.bench import projector
from infield.pipelines.pet.bench.baselines import best, usual
from infield.pipelines.pet.bench.cases import Case, draw_case, rate_prior
from infield.pipelines.pet.bench.chain import reference
from infield.pipelines.pet.bench.nifty import mirrored_crps, nifty_mgvi
from infield.pipelines.run.console import progress
from infield.posterior.diagnostics.calibration import coverage, crps, ranks
from infield.posterior.samplers.faps import FAPS

PARTS = ("projector", "chain", "counts")
COUNTS = (2e5, 2e4, 4e3)
TRUTHS, DRAWS = 10, 16
LEVEL, POINTS = 0.9, 0.03
OURS, PEER, CHAIN = "faps", "nifty-mgvi", "chain"
REGIONS = 4
"""Regions along a side, of whose mean rate bias and spread over truths are given."""

METRICS = {
    "rmse": ".3f",
    "crps": ".4f",
    "coverage_90": ".3f",
    "region_bias": "+.3f",
    "region_sd": ".3f",
    "cpu_seconds": ".3g",
}
METHOD_NOTE = (
    "RMSE of the rate over its mean, less the Monte Carlo share of independent draws; CRPS (fair) and share inside "
    "the central 90 % interval, exact for any number of draws, of the log rate; bias and spread of relative "
    "errors of region means; means over the truths."
)


@dataclass
class CountsBench(KeptBench):
    """The records of all parts; a case is "part: case #n" for the n-th truth."""

    def print(self, metrics: Any = None, note: str = "", summary: Any = None) -> None:
        """A table a case, means over its truths, and one of targets."""
        console, plain = wide_console(), [r for r in self.records if r.target is None]
        for group in dict.fromkeys(group_of(r.case) for r in plain):
            own = [r for r in plain if group_of(r.case) == group]
            shown = [m for m in METRICS if any(r.metric == m for r in own)]
            if not shown:
                console.print(*(f"{r.method}: {r.value}" for r in own), highlight=False)
                continue
            table = Table(title=f"{self.name}, {group}, seed {self.seed}, {len({r.case for r in own})} truths")
            for name in ("method", *shown):
                table.add_column(name.replace("_", " "), justify="left" if name == "method" else "right")
            for method in dict.fromkeys(r.method for r in own):
                table.add_row(method, *(_mean_of(own, method, m) for m in shown))
            console.print(table)
        table = Table(title=f"{self.name}: targets")
        for name in ("case", "method", "figure", "value", "target", "met"):
            table.add_column(name)
        words = {True: "yes", False: "no", None: "unknown"}
        for r in self.records:
            if r.target is not None:
                value = r.value if isinstance(r.value, str) else format(r.value, ".4g")
                table.add_row(r.case, r.method, r.metric.replace("_", " "), value, r.target, words[r.met])
        console.print(table)
        console.print(note, highlight=False)


def _mean_of(records: list[Record], method: str, metric: str) -> str:
    found = [r.value for r in records if (r.method, r.metric) == (method, metric) and not isinstance(r.value, str)]
    return format(statistics.fmean(found), METRICS[metric]) if found else ""


def chosen(arguments: argparse.Namespace) -> tuple[Any, dict[str, Any]]:
    """This bench with its options."""
    names = ("parts", "truths", "keep")
    return sys.modules[__name__], {name: getattr(arguments, name) for name in names}


def run(
    *,
    quick: bool = False,
    seed: int = 0,
    parts: list[str] | None = None,
    truths: int | None = None,
    keep: list[Path] | None = None,
) -> Bench:
    """The requested parts.

    Raises:
        InfieldError: There are no truths, or a file of finished cases is of another bench or seed.
    """
    if truths is not None and truths < 1:
        raise InfieldError(where="--truths", found=truths, expected="at least 1")
    torch.set_num_threads(1)
    bench, n = CountsBench("pet", seed), truths or (1 if quick else TRUTHS)
    if keep:
        bench.load(keep)
    if find_spec("nifty") is None:
        bench.add("all", PEER, "absent", "not installed: pip install nifty jax")
    for part in parts or PARTS:
        if part == "projector":
            projector.run(bench, side=32 if quick else 128, angles=20 if quick else 180)
        else:
            side, angles = (16, 12) if quick else (32, 30) if part == "chain" else (64, 60)
            _counted(bench, part, side, angles, n, COUNTS[1:2] if quick else COUNTS, seed)
    return bench


def _counted(
    bench: KeptBench, part: str, side: int, angles: int, truths: int, levels: tuple[float, ...], seed: int
) -> None:
    groups = [f"{part}: {level:,.0f} counts" for level in levels]
    with progress() as bar:
        task = bar.add_task(part, total=truths * len(levels))
        for number in range(truths):
            names = [f"{group} #{number}" for group in groups]
            if not any(map(bench.pending, names)):
                bar.advance(task, len(levels))
                continue
            full = draw_case(side, angles, levels[0], 1000 * seed + number)
            for level, name in zip(levels, names, strict=True):
                thinning = Generator().manual_seed(1000 * seed + number)
                case = full if level == levels[0] else full.thinned(level / levels[0], thinning)
                if bench.pending(name):
                    _one(bench, name, case, reference_too=part == "chain")
                    bench.finish(name)
                bar.advance(task)
    for group in groups:
        _verdicts(bench, group, chain=part == "chain", large=side >= 64)


def _one(bench: Bench, name: str, case: Case, *, reference_too: bool) -> None:
    side, draws = len(case.rate), 2 * DRAWS if reference_too else DRAWS
    for images in (usual, best):
        for method, image in images(case).items():
            _enter_image(bench, name, method, image, case)

    def ours() -> Tensor:
        streams = SampleStreams(0, range(draws))
        return FAPS()(rate_prior(side), case.measurement, draws, streams).samples

    _enter_draws(bench, name, OURS, ours, case)
    if find_spec("nifty") is not None:
        _enter_draws(bench, name, PEER, lambda: nifty_mgvi(case, pairs=draws // 2), case, mirrored=True)
    if reference_too:
        _enter_draws(bench, name, CHAIN, lambda: torch.from_numpy(reference(case, chains=draws)), case)


def _enter_draws(
    bench: Bench, name: str, method: str, draw: Callable[[], Tensor], case: Case, *, mirrored: bool = False
) -> None:
    start = time.process_time()
    draws = draw().reshape(-1, *case.rate.shape)
    seconds = time.process_time() - start
    truth = case.log_rate
    if mirrored:  # pairs about one mean: half as many are independent, and an interval of mean and spread is right
        inside = (truth - draws.mean(0)).abs() <= 1.645 * draws.std(0)
        cover = float(inside.double().mean())
    else:
        cover = coverage(ranks(draws, truth), len(draws), LEVEL, Generator().manual_seed(0))
    rates = draws.exp()
    share = 0.0 if mirrored else float(rates.var(0).mean()) / len(rates)
    _enter_image(bench, name, method, rates.mean(0), case, share)
    bench.add(name, method, "crps", mirrored_crps(draws, truth) if mirrored else crps(draws, truth))
    bench.add(name, method, "coverage_90", cover)
    bench.add(name, method, "cpu_seconds", seconds, "s")


def _enter_image(bench: Bench, name: str, method: str, image: Tensor, case: Case, share: float = 0.0) -> None:
    """Scores of an image, less the share of its squared error that the finite number of draws adds."""
    rate = case.rate
    squared = float((image - rate).square().mean()) - share
    bench.add(name, method, "rmse", max(squared, 0.0) ** 0.5 / float(rate.mean()))
    size = len(rate) // REGIONS
    regions = (torch.nn.functional.avg_pool2d(field[None], size) for field in (image, rate))
    estimate, true = regions
    errors = (estimate - true) / true.mean()
    bench.add(name, method, "region_bias", float(errors.mean()))
    bench.add(name, method, "region_sd", float(errors.std()))


def _verdicts(bench: Bench, group: str, *, chain: bool, large: bool) -> None:
    """The target figures, each over the truths of one number of counts."""

    def values(method: str, metric: str) -> list[float]:
        found = (r for r in bench.records if r.target is None and group_of(r.case) == group)
        return [float(r.value) for r in found if (r.method, r.metric) == (method, metric)]

    def ratio(metric: str, other: str) -> float | None:
        theirs = values(other, metric)
        return statistics.fmean(values(OURS, metric)) / statistics.fmean(theirs) if theirs else None

    def judge(metric: str, value: float | None, most: float) -> None:
        met = None if value is None else value <= most
        shown = "the peer did not run" if value is None else value
        bench.records.append(Record(bench.name, group, OURS, metric, shown, "1", f"at most {most:g}", met))

    cover = values(OURS, "coverage_90")
    error = statistics.stdev(cover) / len(cover) ** 0.5 if len(cover) > 1 else 0.0
    judge("coverage_90 from nominal", abs(statistics.fmean(cover) - LEVEL), max(POINTS, 2 * error))
    judge("rmse over that of mlem best", ratio("rmse", "mlem best"), 1.0)
    judge("rmse over that of osem", ratio("rmse", next(m for m in _methods(bench) if m.startswith("osem 2"))), 0.9)
    judge("crps over that of nifty-mgvi", ratio("crps", PEER), 1.03)
    if chain:
        judge("crps over that of the chain", ratio("crps", CHAIN), 1.03)
    if large:
        judge("cpu_seconds over that of nifty-mgvi", ratio("cpu_seconds", PEER), 10.0)


def _methods(bench: Bench) -> list[str]:
    return list(dict.fromkeys(r.method for r in bench.records))
