"""A small measurement with a known truth, for commands that judge posteriors."""

from __future__ import annotations

import torch
from torch import Generator

from infield.core.grid import Grid
from infield.physics.measurement import Measurement
from infield.physics.noise.gaussian import GaussianNoise
from infield.physics.operators.registry import build_operator
from infield.priors.gaussian.kernels import Matern
from infield.priors.gaussian.prior import gaussian_prior


def measurement(seed=0, variance=0.05):
    grid, generator = Grid.regular((6, 6)), Generator().manual_seed(seed)
    mask = (torch.rand((6, 6), generator=Generator().manual_seed(0)) < 0.4).numpy()
    description = {"name": "mask", "arrays": {"mask": "mask"}}
    operator = build_operator(description, {"mask": mask}, grid, 1)
    truth = gaussian_prior(Matern(nu=1.5, length=0.3), grid).covariance.sample(1, generator)
    noise = GaussianNoise(torch.tensor(variance))
    y = torch.where(operator.observed, noise.sample(operator.A(truth), generator), 0.0)
    return Measurement(
        y=y, operator=operator, noise=noise, grid=grid, truth=truth, description=description, arrays={"mask": mask}
    )
