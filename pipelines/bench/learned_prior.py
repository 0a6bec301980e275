"""The posterior under a learned prior: what training costs in rightness, where the exact posterior is known.

A Fourier neural operator is trained on a periodic Matern 3/2 field (length 0.15, 64 points) from 4096 draws, through
`infield fit` and its file, without the closed-form skip: it has to learn all of the law. Then FAPS draws posteriors
under it, 6 observations, noise variance 0.01. Beside it: the same sampler under the closed-form prior, and, on
purpose, under the same network with all its weights set to zero.
"""

from __future__ import annotations

import tempfile
import time
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import Generator

from infield.core.grid import Grid
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import GaussianNoise
from infield.physics.operators.registry import build_operator
from infield.pipelines.bench.beside_exact import METRICS as METRICS
from infield.pipelines.bench.beside_exact import add_beside_exact
from infield.pipelines.bench.records import Bench
from infield.pipelines.commands.fit import run as fit
from infield.pipelines.package_data import CONFIGS
from infield.pipelines.run.console import progress
from infield.posterior.samplers.base import Sampler
from infield.posterior.samplers.exact import Exact
from infield.posterior.samplers.faps import FAPS
from infield.priors.base import FlowPrior
from infield.priors.flows.flow import LearnedFlow
from infield.priors.gaussian.kernels import Matern
from infield.priors.gaussian.prior import gaussian_prior
from infield.priors.storage.checkpoint import load_flow_prior

GRID = Grid.regular((64,), 1.0, names=("x",), units="m", periodic=True)
LAW = Matern(nu=1.5, length=0.15)
EXAMPLES, OBSERVATIONS, NOISE_VARIANCE, DRAWS = 4096, 6, 0.01, 1024
CONFIG = CONFIGS / "fit_fno_1d.yaml"

METHOD_NOTE = "faps-flow: under an FNO, 228 000 weights, 3000 steps of 64 fields (300 when quick), no skip; one thread."


def run(*, quick: bool = False, seed: int = 0) -> Bench:
    """Train once, then 10 cases of 1024 draws; 300 steps and 2 cases when quick."""
    torch.set_num_threads(1)
    bench = Bench("learned-prior", seed)
    closed_form = gaussian_prior(LAW, GRID)
    generator = Generator().manual_seed(seed)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        learned = _train(
            Path(folder), closed_form.covariance.sample(EXAMPLES, generator)[:, 0], 300 if quick else 3000, seed
        )
    bench.add("training", "faps-flow", "training_seconds", time.perf_counter() - start, "s")
    forgotten = replace(learned, network=deepcopy(learned.network))
    for parameter in forgotten.network.parameters():
        parameter.data.zero_()
    with progress() as bar:
        for case in bar.track(range(2 if quick else 10), description="learned-prior"):
            truth = closed_form.covariance.sample(1, generator)
            methods: dict[str, tuple[Sampler, FlowPrior]] = {
                "exact": (Exact(), closed_form),
                "faps-flow-closed-form": (FAPS(levels=20), closed_form),
                "faps-flow": (FAPS(levels=20), learned),
                "(weights zero)": (FAPS(levels=20), forgotten),
            }
            measurement = _measure(truth, generator)
            add_beside_exact(bench, f"{case}", closed_form, measurement, truth[0], methods, DRAWS, generator)
    return bench


def _train(folder: Path, fields: torch.Tensor, steps: int, seed: int) -> LearnedFlow:
    """What a user does: write example fields, `infield fit`, `load_flow_prior`."""
    xr.Dataset(
        {"field": (("sample", "x"), fields.numpy().astype("f4"), {"units": "K"})},
        {"x": ("x", np.array(GRID.axes[0].coordinates), {"units": "m", "periodic": 1})},
    ).to_netcdf(folder / "functions.nc")
    settings = {
        "seed_everything": seed,
        "data.init_args.path": folder / "functions.nc",
        "model.init_args.skip": "none",
        "model.init_args.network.init_args.modes": 24,
        "model.init_args.network.init_args.coordinates": "none",
        "trainer.default_root_dir": folder / "run",
        "trainer.max_steps": steps,
        "trainer.accelerator": "cpu",
        "trainer.logger": "false",
    }
    fit(["--config", str(CONFIG), *(word for key, value in settings.items() for word in (f"--{key}", str(value)))])
    return load_flow_prior(folder / "run" / "prior.ckpt")


def _measure(truth: torch.Tensor, generator: Generator) -> Measurement:
    description = {"name": "points", "arrays": {"indices": "sensor"}}
    arrays = {"sensor": torch.randperm(GRID.size, generator=generator)[:OBSERVATIONS].sort().values.numpy()}
    operator, noise = build_operator(description, arrays, GRID, 1), GaussianNoise(torch.tensor(NOISE_VARIANCE))
    return Measurement(
        y=noise.sample(operator.A(truth), generator),
        operator=operator,
        noise=noise,
        grid=GRID,
        units="K",
        description=description,
        arrays=arrays,
    )
