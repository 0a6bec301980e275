"""How much of the bench runs, and what all parts do with an outcome."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.random import Generator

from infield.pipelines.bench.kriging.fields import Problem
from infield.pipelines.bench.kriging.measurements import Layout
from infield.pipelines.bench.kriging.ours import reconstruct
from infield.pipelines.bench.kriging.peers import PEERS, Answer, Peer
from infield.pipelines.bench.kriging.processes import Limits, Outcome, of_peer
from infield.pipelines.bench.kriging.tables import PartsBench
from infield.pipelines.run.console import say

Scores = Callable[[Answer], dict[str, float]]

OURS = "infield"
DEFAULT = "infield, no option"
TRUE_LAW = "kriging, true law"


@dataclass(frozen=True)
class Settings:
    """The settings of a run.

    Arguments:
        seed: Of all cases.
        truths: Fields a case.
        quick: Few, small, without peers, in this process: to check that it runs.
        full: Also what takes hours.
        peers: Names of `peers.PEERS`.
        limits: Of each process.
        only: Cases whose name holds this text; all where it is empty.
    """

    seed: int
    truths: int
    quick: bool
    full: bool
    peers: tuple[str, ...]
    limits: Limits
    only: str = ""

    def includes(self, group: str) -> bool:
        """Whether a case is requested."""
        return self.only in group

    def rng(self, *case: int) -> Generator:
        """Of one case: the same whatever else runs."""
        return np.random.default_rng([self.seed, *case])

    def chosen(self, *names: str) -> Iterator[Peer]:
        """Requested peers of these names."""
        return (PEERS[name] for name in names if name in self.peers)


def labels(*names: str) -> list[str]:
    """Rows of these peers: all are needed for a verdict."""
    return [PEERS[name].label for name in names]


def enter(bench: PartsBench, case: str, method: str, outcome: Outcome, scores: Scores) -> None:
    """Scores and costs of an outcome, or why there is none."""
    if outcome.refused is not None:
        bench.refuse(case, method, outcome.refused)
        say(f"{case}: {method}: {outcome.refused}")
        return
    answer = outcome.answer
    found = {name: value for name, value in scores(answer).items() if np.isfinite(value)}
    if answer.noise_sd is not None:
        found["noise_sd"] = answer.noise_sd
    stated = getattr(answer, "trusted", "none")
    if stated in ("0", "1"):
        found["trusted"] = float(stated)
    bench.scores(case, method, found | outcome.cost)
    shown = (f"{name} {value:.4g}" for name, value in (found | outcome.cost).items())
    say(f"{case}: {method}: {', '.join(shown)}")


def enter_ours(
    bench: PartsBench,
    case: str,
    problem: Problem,
    settings: Settings,
    scores: Scores,
    *options: str,
    layout: Layout | None = None,
    method: str = OURS,
) -> None:
    """`reconstruct` without a prior, with these options: none is what a person does first."""
    few = ("--samples", "8") if settings.quick and "--samples" not in options else ()
    outcome = reconstruct(problem, settings.limits, *few, *options, layout=layout, in_process=settings.quick)
    enter(bench, case, method, outcome, scores)


def enter_peers(
    bench: PartsBench, case: str, number: int, problem: Problem, settings: Settings, scores: Scores, *names: str
) -> None:
    """The requested peers; slow ones on the first truths alone."""
    for peer in settings.chosen(*names):
        if not peer.truths or number < peer.truths:
            enter(bench, case, peer.label, of_peer(peer, problem, settings.limits), scores)
