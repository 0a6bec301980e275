"""The whole road with a learned prior: fields to a checkpoint by `infield fit`, to a posterior, against the exact one.

Slow (about five minutes on one core): `make test-slow`.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from infield.physics.grid import Grid
from infield.physics.measurement import Measurement
from infield.physics.noise import GaussianNoise
from infield.physics.registry import build_operator
from infield.pipelines.fit import run
from infield.posterior.calibration import mean_error, sliced_wasserstein
from infield.posterior.exact import Exact, posterior_mean
from infield.posterior.faps import FAPS
from infield.priors.checkpoint import load_prior
from infield.priors.gaussian import gaussian_prior
from infield.priors.source import Matern

CONFIG = Path(__file__).parents[2] / "pipelines" / "configs" / "fit_fno_1d.yaml"
GRID = Grid.regular((64,), 1.0, names=("x",), units="m", periodic=True)
LAW = Matern(nu=1.5, length=0.15)


@pytest.mark.slow
def test_the_posterior_under_a_learned_prior_is_near_the_exact_one(tmp_path):
    exact_prior = gaussian_prior(LAW, GRID)
    generator = torch.Generator().manual_seed(0)
    fields = exact_prior.covariance.sample(4096, generator)
    xr.Dataset(
        {"field": (("sample", "x"), fields[:, 0].numpy().astype("f4"), {"units": "K"})},
        {"x": ("x", np.array(GRID.axes[0].coordinates), {"units": "m", "periodic": 1})},
    ).to_netcdf(tmp_path / "functions.nc")
    settings = {
        "data.init_args.path": tmp_path / "functions.nc",
        "model.init_args.skip": "none",  # the network has to learn all of it
        "model.init_args.network.init_args.modes": 24,
        "model.init_args.network.init_args.coordinates": "none",
        "trainer.default_root_dir": tmp_path / "run",
        "trainer.max_steps": 3000,
        "trainer.accelerator": "cpu",
        "trainer.logger": "false",
        "trainer.enable_progress_bar": "false",
    }
    words = [word for key, value in settings.items() for word in (f"--{key}", str(value))]
    assert run(["--config", str(CONFIG), *words]) == 0
    learned = load_prior(tmp_path / "run" / "prior.ckpt")

    description, arrays = {"name": "points", "arrays": {"indices": "sensor"}}, {"sensor": np.array([3, 11, 20, 21, 40, 52])}
    operator = build_operator(description, arrays, GRID, 1)
    truth = exact_prior.covariance.sample(1, generator)
    noise = GaussianNoise(torch.tensor(0.01))
    measurement = Measurement(
        y=noise.sample(operator.A(truth), generator), operator=operator, noise=noise, grid=GRID, units="K"
    )
    n = 1024
    reference, others = (Exact()(exact_prior, measurement, n, generator).samples[:, 0] for _ in range(2))
    directions = torch.Generator().manual_seed(1)
    floor = sliced_wasserstein(others, reference, directions)
    mean, std = posterior_mean(exact_prior, measurement)[0], reference.std(0)

    def judge(prior, levels):
        draws = FAPS(levels=levels)(prior, measurement, n, generator).samples[:, 0]
        distance = sliced_wasserstein(draws, reference, torch.Generator().manual_seed(1)) / floor
        ratio = float((draws.var(0).mean() / reference.var(0).mean()).sqrt())
        print(f"levels {levels}: sw2 {distance:.2f} of exact, mean error {mean_error(draws, mean, std):.3f} sd, sd {ratio:.3f}")
        return distance, ratio

    distance, ratio = judge(learned, 20)
    assert distance < 3 and 0.9 < ratio < 1.1
    for parameter in learned.network.parameters():  # control: the same road with a network that has forgotten
        parameter.data.zero_()
    assert judge(learned, 20)[0] > 2 * distance
