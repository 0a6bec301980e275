"""Cases of `infield evaluate`: slices of heads from k-space, and volumes of slices."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Generator, Tensor

from infield.core.grid import Grid
from infield.core.randomness import SampleStreams
from infield.datasets.mri.brains import BrainPhantom
from infield.pipelines.bench.evaluation import Case
from infield.pipelines.mri.bench.one_step_fields import FIELD_OF_VIEW, POINTS, PRIOR, TASKS, measure
from infield.pipelines.mri.bench.volumes import phantom
from infield.posterior.samplers.dds import DDS
from infield.posterior.samplers.diffusion_mbir import DiffusionMBIR
from infield.posterior.samplers.faps import FAPS
from infield.priors.amortised.average_velocity import load_average_velocity
from infield.priors.storage.checkpoint import load_flow_prior

NOISE = 0.02


def kspace() -> Case:
    """A head of 64 x 64 points, one coil, an eighth of k-space with noise; truths are synthetic heads."""
    return _kspace(NOISE, "snap", "null-flow needs exact data")


def exact_kspace() -> Case:
    """The same without noise."""
    return _kspace(0.0, "null-flow", "snap needs noisy data")


def _kspace(noise: float, one_step: str, why: str) -> Case:
    grid = Grid.regular((POINTS, POINTS), (FIELD_OF_VIEW,) * 2, names=("y", "x"), units="mm", periodic=True)
    task = TASKS["mri 8x"]
    measurement = measure(_head(grid, Generator().manual_seed(0)), task.family, grid, noise, Generator().manual_seed(1))
    slow = "minutes a simulation of thousands of data"
    return Case(
        load_flow_prior(PRIOR).on(grid),
        replace(measurement, truth=None),
        truth=lambda generator: _head(grid, generator),
        models={one_step: load_average_velocity(task.path)},
        samplers={"faps": FAPS(levels=8)},
        left_out={
            ({"snap", "null-flow"} - {one_step}).pop(): why,
            **dict.fromkeys(("faps-published", "smc", "source-slice", "dds", "diffusion-mbir"), slow),
            **({"faps": "as noisy k-space"} if one_step == "null-flow" else {}),
        },
        simulations=24,
        draws=16,
    )


def _head(grid: Grid, generator: Generator) -> Tensor:
    """A synthetic head `(1, 2, y, x)`."""
    seed = int(torch.randint(2**31, (1,), generator=generator))
    image = BrainPhantom().draw(grid, SampleStreams(seed, [0]).normal)[0]
    return torch.stack([image.real, image.imag])[None]


def volumes() -> Case:
    """Volumes of 6 slices of 16 x 16 from an eighth of their k-space; truths change little from slice to slice."""
    prior, measurement = phantom("lines", 6, 16, 0)

    def draw(generator: Generator) -> Tensor:
        truth = phantom("lines", 6, 16, int(torch.randint(2**31, (1,), generator=generator)))[1].truth
        assert truth is not None
        return truth

    return Case(
        prior,
        replace(measurement, truth=None),
        truth=draw,
        samplers={"dds": DDS(), "diffusion-mbir": DiffusionMBIR(levels=100)},
        left_out=dict.fromkeys(("faps-published", "smc", "source-slice"), "not for volumes of slices"),
        simulations=20,
        draws=16,
    )
