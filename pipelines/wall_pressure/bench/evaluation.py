"""Case of `infield evaluate`: wall pressure from few sensors."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
from torch import Generator, Tensor

from infield.core.randomness import SampleStreams
from infield.datasets.wall_pressure.sensors import WallSensors
from infield.physics.wall_pressure.wall_units import wall_grid
from infield.pipelines.bench.evaluation import Case
from infield.pipelines.package_data import CHECKPOINTS
from infield.pipelines.wall_pressure.bench.cases import NOISE_STD
from infield.posterior.samplers.faps import FAPS
from infield.priors.storage.checkpoint import load_flow_prior
from infield.priors.wall_pressure.synthetic import WallPressure

RE_TAU, LENGTH, SHARE = 180.0, 2 * math.pi, 0.02


def sensors() -> Case:
    """A plane at Re_tau 180, 2 pi half heights long, from sensors at 2 % of its points; truths are of the law that the
    prior was trained on."""
    grid, law = wall_grid(RE_TAU, LENGTH), WallPressure(RE_TAU)
    placed = WallSensors.random(grid, SHARE, 0)
    blank = placed.measure(torch.zeros(grid.shape, dtype=torch.float64), NOISE_STD, 0)

    def draw(generator: Generator) -> Tensor:
        seed = int(torch.randint(2**31, (1,), generator=generator))
        return law.draw(grid, SampleStreams(seed, [0]).normal)[:, None].to(torch.float64)

    slow = "minutes a simulation of a flow on thousands of points"
    return Case(
        load_flow_prior(CHECKPOINTS / "wall_pressure_180.ckpt").on(grid),
        replace(blank, truth=None),
        truth=draw,
        samplers={"faps": FAPS(levels=8)},
        left_out=dict.fromkeys(("faps-published", "smc", "source-slice"), slow),
        simulations=24,
        draws=16,
    )
