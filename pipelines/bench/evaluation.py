"""Calibration of every sampler on small cases of every domain, by the simulations of `infield calibrate`.

A case is an entry of the registry's group `evaluations`: a function without arguments that returns a `Case`. Truths are
drawn, measured by its operator and noise, and reconstructed by each sampler with its default parameters; truth and
draws are judged by the exchange test of `posterior.calibration`. A sampler that does not accept the case is listed with
its reason, an estimate without a spread as such, and one with a caveat is judged without a target.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.table import Table
from torch import Generator, Tensor

from infield.core import registry
from infield.core.errors import InfieldError
from infield.core.randomness import SampleStreams
from infield.physics.measurement import Measurement
from infield.pipelines.bench.kept import Kept
from infield.pipelines.bench.records import Bench, Record, wide_console
from infield.pipelines.run.console import progress
from infield.pipelines.run.options import is_silent
from infield.pipelines.run.samplers import make_sampler
from infield.posterior.calibration.assessment import Simulation, assess
from infield.posterior.calibration.exchange import ALARM
from infield.posterior.calibration.functionals import predeclared
from infield.posterior.calibration.places import groups_of_places
from infield.posterior.calibration.truths import simulated
from infield.posterior.samplers.base import Estimate, Sampler

GROUP = "evaluations"
QUICK = 20
"""Simulations of a quick run: the fewest that are judged."""

METRICS = {
    "p": ".4f",
    "spread_over_error": ".2f",
    "coverage_50": ".3f",
    "coverage_80": ".3f",
    "coverage_95": ".3f",
    "finds_narrower_than": ".2f",
    "finds_wider_than": ".2f",
    "simulations": ".0f",
    "draws": ".0f",
    "seconds_a_draw": ".4f",
}
METHOD_NOTE = (
    f"p below {ALARM:g}: a fault was found. Samplers in brackets declare that they approximate. Narrower and wider: "
    "smallest wrong standard deviations, times the right ones, that are found with 80 % power."
)


TITLES = {
    "absent": "not judged",
    "p": "p",
    "spread_over_error": "spread over error",
    "coverage_50": "50 %",
    "coverage_80": "80 %",
    "coverage_95": "95 %",
    "finds_narrower_than": "finds narrower than",
    "finds_wider_than": "wider than",
    "simulations": "simulations",
    "seconds_a_draw": "CPU a draw",
}


class Evaluation(Bench):
    """Records of one run, shown one row a case and sampler."""

    @property
    def document(self) -> dict[str, Any]:
        return super().document | {
            "command": "infield evaluate",
            "title": "Calibration of every sampler",
            "metrics": TITLES,
        }

    def rows(self) -> Iterator[tuple[str, str, dict[str, Any]]]:
        """Case, sampler, and figures by metric."""
        found: dict[tuple[str, str], dict[str, Any]] = {}
        for record in self.records:
            found.setdefault((record.case, record.method), {})[record.metric] = record.value
        for (case, method), figures in found.items():
            yield case, method, figures

    def show(self) -> None:
        """The table on standard output, unless output is silenced."""
        if is_silent():
            return
        table = Table(title=f"calibration of samplers, seed {self.seed}")
        for title in ("case", "sampler", "verdict", *list(TITLES.values())[1:]):
            table.add_column(title)
        for case, method, figures in self.rows():
            if "absent" in figures:
                table.add_row(case, method, str(figures["absent"]))
                continue
            cells = [format(figures[name], METRICS[name]) if name in figures else "-" for name in list(TITLES)[1:]]
            verdict = "no fault found" if figures["p"] >= ALARM else "[bold]wrong[/bold]"
            table.add_row(case, method, verdict, *cells)
        console = wide_console()
        console.print(table)
        console.print(METHOD_NOTE, highlight=False)


@dataclass(frozen=True)
class Case:
    """What samplers are tried on.

    Arguments:
        prior: Of the reconstruction.
        measurement: Of which operator, noise and grid are used, and no data.
        truth: Draws a truth in units, `(1, channel, *space)`, where it does not come from the prior itself: such truths
            test the prior as well.
        models: What a sampler takes in place of the prior, by its name: a model, or a function of a measurement that
            returns one, where it is fitted to each.
        samplers: Those with other parameters than the defaults, by name.
        left_out: Why a sampler is not run, by its name.
        simulations, draws: How many.
    """

    prior: Any
    measurement: Measurement
    truth: Callable[[Generator], Tensor] | None = None
    models: Mapping[str, Any] = field(default_factory=dict)
    samplers: Mapping[str, Sampler] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    simulations: int = 64
    draws: int = 32

    def sampler(self, name: str) -> Sampler:
        """A sampler with the parameters that it has here."""
        return self.samplers.get(name) or make_sampler(name)

    def model(self, name: str, measurement: Measurement) -> Any:
        """What a sampler is given for data."""
        found = self.models.get(name, self.prior)
        return found(measurement) if callable(found) else found


def evaluate(
    *,
    cases: Sequence[str] | None = None,
    samplers: Sequence[str] | None = None,
    quick: bool = False,
    seed: int = 0,
    keep: Path | None = None,
) -> Evaluation:
    """All samplers on all cases; 20 simulations of each when quick.

    Arguments:
        cases, samplers: Names; None for all.
        quick: Whether only 20 simulations are made, which see little.
        seed: Of all random numbers.
        keep: Folder of finished pairs.
    """
    torch.set_num_threads(1)
    bench, kept = Evaluation("evaluate", seed), Kept(keep)
    names = list(cases or registry.names(GROUP))
    tried = list(samplers or registry.names("samplers"))
    with progress() as bar:
        task = bar.add_task("evaluate", total=len(names) * len(tried))
        for name in names:
            case = registry.load(GROUP, name)()
            for method in tried:
                _add(bench, name, method, case, kept, quick)
                bar.advance(task)
    return bench


def _add(bench: Bench, name: str, method: str, case: Case, kept: Kept, quick: bool) -> None:
    """Records of a sampler on a case, or why there are none."""
    sampler = case.sampler(method)
    why = case.left_out.get(method)
    if why is None and issubclass(sampler.result, Estimate):
        why = "an estimate without a spread"
    if why is None and method not in case.models:
        try:
            sampler.accepts.check(method, case.prior)
        except InfieldError as error:
            why = f"needs {error.expected}"
    label = f"({method})" if sampler.caveat else method
    if why is not None:
        bench.add(name, label, "absent", why)
        return
    simulations = QUICK if quick else case.simulations
    key = f"{name} {method} seed {bench.seed} {simulations} of {case.draws}"
    try:
        found = kept.case(key, lambda: _judge(case, method, simulations, bench.seed, power=not quick))
    except InfieldError as error:
        bench.add(name, label, "absent", str(error))
        return
    for metric in METRICS:
        value = float(found[metric])
        if metric == "p" and not sampler.caveat:
            target = f"no fault found: at least {ALARM:g}"
            bench.records.append(Record(bench.name, name, label, "p", value, "1", target, value >= ALARM))
        elif math.isfinite(value):
            bench.add(name, label, metric, value, "s" if metric == "seconds_a_draw" else "1")


def _judge(case: Case, method: str, simulations: int, seed: int, *, power: bool) -> dict[str, np.ndarray]:
    """Figures of a sampler on a case."""
    sampler, start = case.sampler(method), time.process_time()
    found = [_simulation(case, sampler, method, [seed, s]) for s in range(simulations)]
    seconds = (time.process_time() - start) / (simulations * case.draws)
    measurement, source = case.measurement, "prior" if case.truth is None else "file"
    verdict = assess(
        found.__getitem__,
        simulations,
        predeclared(measurement.grid, measurement.channels),
        groups_of_places(measurement),
        source,
        misfits=["log likelihood"],
        seed=seed,
        power=power,
    )
    covered = {f"coverage_{one.level * 100:.0f}": one.share for one in verdict.coverage if one.place == "all"}
    figures = {
        "p": verdict.exchange.p,
        "spread_over_error": verdict.width,
        **covered,
        "finds_narrower_than": verdict.power.too_narrow if power else math.nan,
        "finds_wider_than": verdict.power.too_wide if power else math.nan,
        "simulations": simulations,
        "draws": case.draws,
        "seconds_a_draw": seconds,
    }
    return {name: np.array(value, dtype=float) for name, value in figures.items()}


def _simulation(case: Case, sampler: Sampler, method: str, seeds: list[int]) -> Simulation:
    """A truth, its data and draws; random numbers depend on seed and number alone, whatever the sampler."""
    own, second = (int(k) >> 1 for k in np.random.SeedSequence(seeds).generate_state(2, np.uint64))
    generator = Generator().manual_seed(own)
    truth = None if case.truth is None else case.truth(generator)
    source = "prior" if truth is None else "file"
    streams = SampleStreams(second, range(sampler.block))
    _, replicate = simulated(source, case.prior, sampler, case.measurement, generator, streams, field=truth)
    model, block = case.model(method, replicate), sampler.block
    parts = [
        sampler(model, replicate, block, SampleStreams(second, range(b, b + block))).samples
        for b in range(0, case.draws, block)
    ]
    draws = torch.cat(parts)[: case.draws].to(torch.float64)
    assert replicate.truth is not None
    candidates = torch.cat([replicate.truth.to(torch.float64), draws])
    with torch.no_grad():
        fit = replicate.log_likelihood(candidates.to(replicate.y)).double()[:, None].clamp(-1e300, 1e300)
    return Simulation(candidates[0], draws, fit)
