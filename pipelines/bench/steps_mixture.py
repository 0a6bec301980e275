"""Part `mixture` of `infield bench steps`: `smc` on the cases of `infield bench mixture`, beside exact draws."""

from __future__ import annotations

from torch import Generator

from infield.pipelines.bench.beside_exact import add_beside_exact
from infield.pipelines.bench.mixture import measured, mixture_prior
from infield.pipelines.bench.records import Bench
from infield.pipelines.bench.steps_kept import Figures, StepsBench
from infield.posterior.samplers.twisted_smc import TwistedSMC

SAMPLER = TwistedSMC(steps=100)
"""400 velocity calls a draw."""

JUDGED = ("c2st", "sw2_ratio_to_exact", "velocity_calls")


def run(bench: StepsBench, quick: bool, seed: int) -> None:
    """The error of a classifier between its draws and exact ones, the mean of the cases and the worst."""
    cases, draws = bench.number(20, 2, quick), 128 if quick else 512
    prior = mixture_prior()
    found: list[Figures] = []
    for case in range(cases):

        def measure(case: int = case) -> Figures:
            generator = Generator().manual_seed(1000 * seed + case)
            measurement, truth = measured(prior, case, generator)
            one = Bench("mixture", seed)
            rows = {"smc": (SAMPLER, prior)}
            add_beside_exact(one, f"{case}", prior, measurement, truth, rows, draws, generator, classifier=True)
            return {record.metric: float(record.value) for record in one.records if record.metric in JUDGED}

        found.append(bench.figures(f"mixture, {draws} draws, case {case}", measure))
    case_of = f"{cases} cases of 7 data, {draws} draws"
    c2st = [one["c2st"] for one in found]
    bench.judge(case_of, "smc", "velocity_calls_a_draw", max(one["velocity_calls"] for one in found), high=500)
    bench.judge(case_of, "smc", "mean_C2ST", sum(c2st) / len(c2st), high=0.55)
    bench.judge(case_of, "smc", "worst_C2ST", max(c2st), high=0.62)
    bench.judge(case_of, "smc", "mean_sw2_ratio", sum(one["sw2_ratio_to_exact"] for one in found) / len(found))
