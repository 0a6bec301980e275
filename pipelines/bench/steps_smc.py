"""Part `smc` of `infield bench steps`: sequential Monte Carlo under Gaussian priors beside their exact posterior."""

from __future__ import annotations

import numpy as np
import torch
from torch import Generator

from infield.core.grid import Grid
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import GaussianNoise
from infield.physics.operators.registry import build_operator
from infield.pipelines.bench.targets import TargetBench
from infield.posterior.inference.linear_gaussian import LinearGaussianData
from infield.posterior.samplers.twisted_smc import TwistedSMC
from infield.priors.gaussian.kernels import Matern
from infield.priors.gaussian.prior import gaussian_prior

POINTS = 72


def run(bench: TargetBench, quick: bool, seed: int) -> None:
    """40 and 60 sharp and blunt data of one field, 1, 3 and 20 steps."""
    grid = Grid.regular((POINTS,), 1.0)
    prior = gaussian_prior(Matern(nu=1.5, length=0.3), grid, source=Matern(nu=0.5, length=0.05))
    draws = 400 if quick else 4000
    for count in (40, 60):
        for sd in (0.01, 0.1, 1.0):
            generator = Generator().manual_seed(seed)
            index = torch.randperm(POINTS, generator=generator)[:count].sort().values.numpy()
            description = {"name": "points", "arrays": {"indices": "indices"}}
            operator = build_operator(description, {"indices": index}, grid, 1)
            noise = GaussianNoise(torch.tensor(sd**2, dtype=torch.float64))
            y = noise.sample(operator.A(prior.covariance.sample(1, generator)), generator)
            measurement = Measurement(y, operator=operator, noise=noise, grid=grid)
            data = LinearGaussianData(measurement, prior.covariance.modes)
            evidence = float(data.log_evidence(prior.mean, prior.covariance))
            unit = torch.eye(POINTS, dtype=torch.float64)[:, None]
            K = prior.covariance.apply(unit) - data.correction(
                operator.A(prior.covariance.apply(unit)), prior.covariance
            )
            variance = float(K.flatten(1).diagonal().sum())
            for steps in (1, 3, 20):
                found = TwistedSMC(steps=steps, particles=1)(prior, measurement, draws, generator)
                case = f"{count} data, noise sd {sd:g}, {steps} steps"
                share = found.diagnostics["effective_share"]
                ratio = float(found.samples.var(0).sum()) / variance
                bench.judge(case, "smc", "effective_share", share, low=0.99)
                off = float(np.abs(found.diagnostics["log_evidence"] - evidence))
                bench.judge(case, "smc", "log_evidence_off", off, high=1e-6)
                bench.judge(case, "smc", "variance_over_exact", ratio, 0.95, 1.05)
