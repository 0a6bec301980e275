"""What a run of the bench of lightcones compares."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from infield.pipelines.cm21.bench.cases import Case, Training
from infield.priors.cm21.prior import LightconePrior


@dataclass(frozen=True)
class Setting:
    """What a run compares.

    Arguments:
        path: Of the prior.
        prior: The same, loaded.
        training: What it was trained on.
        cases: Points that it has not seen, all on the grid of the training.
        samples: Cones that are drawn at a point; None for as many as the reference has.
        steps: Of the integration; None for the default of `infield emulate`.
        seed: Of draws and halvings.
        simulator_seconds: Of a core for one cone of the simulator; None to run it.
        python: A Python that has py21cmfast; None for this one.
        memory: Whether peak memory is measured.
        quick: Whether this is only a check that it runs.
        workers: Cones that are drawn at a time, each by one thread.
    """

    path: Path
    prior: LightconePrior
    training: Training
    cases: Sequence[Case]
    samples: int | None
    steps: int | None
    seed: int
    simulator_seconds: float | None
    python: str | None
    memory: bool
    quick: bool
    workers: int
