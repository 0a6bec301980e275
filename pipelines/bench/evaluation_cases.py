"""Cases of `infield evaluate` that are of no domain: Gaussian and mixture priors, counts, a prior that was learned."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from infield.core.grid import Grid
from infield.physics.measurement import Measurement
from infield.physics.noise.gaussian import GaussianNoise
from infield.physics.noise.poisson import PoissonNoise
from infield.physics.operators.links import Exponential
from infield.physics.operators.registry import build_operator
from infield.pipelines.bench.evaluation import Case
from infield.pipelines.bench.learned_regression import CHECKPOINTS, POINTS, point_measurement
from infield.pipelines.bench.mixture import LEARNED, mixture_prior
from infield.pipelines.run.fit_options import FitOptions
from infield.pipelines.run.fitted_field import fit_to_points
from infield.posterior.calibration.truths import draw_from_prior
from infield.posterior.kriging.fitted import FittedField
from infield.posterior.samplers.faps import FAPS
from infield.priors.gaussian.kernels import Matern
from infield.priors.gaussian.prior import gaussian_prior
from infield.priors.storage.checkpoint import load_flow_prior

SENSORS = (9, 31, 42, 58, 77, 90, 118)
"""Where a function on [0, 1) is measured."""

NOT_CONVERGED = "hundreds of sweeps do not mix on several modes (bench mixture)"


def points() -> Case:
    """A Matern field on 10 x 10 points of an open square, 35 of them measured with noise; its posterior is known."""
    grid = Grid.regular((10, 10))
    mask = torch.rand(grid.shape, generator=Generator().manual_seed(1)) < 0.35
    operator = build_operator({"name": "mask", "arrays": {"mask": "mask"}}, {"mask": mask.numpy()}, grid, 1)
    measurement = Measurement(y=_zero(grid), operator=operator, noise=_noise(0.05), grid=grid)
    return Case(gaussian_prior(Matern(1.5, 0.4), grid), measurement, models={"kriging": _fitted})


def counts() -> Case:
    """Poisson counts of the exponential of a Matern field at 8 x 8 points."""
    grid = Grid.regular((8, 8))
    measurement = Measurement(y=_zero(grid), operator=Exponential(grid, 1), noise=PoissonNoise(1.0), grid=grid)
    return Case(gaussian_prior(Matern(1.5, 0.4), grid), measurement, simulations=40)


def modes() -> Case:
    """Functions on [0, 1) of one of four lengths, 7 of 128 values measured: several modes, in closed form."""
    left_out = {"source-slice": NOT_CONVERGED}
    return Case(mixture_prior(), _of_functions(), left_out=left_out, simulations=40)


def learned_modes() -> Case:
    """The same under a flow that has learned these functions; truths are of the law that it was trained on."""
    law = mixture_prior()
    return Case(
        load_flow_prior(CHECKPOINTS / "gp_mixture.ckpt"),
        _of_functions(),
        truth=lambda generator: draw_from_prior(law, 1, generator),
        samplers={"faps": FAPS(levels=20), "smc": LEARNED},
        left_out={"source-slice": NOT_CONVERGED},
        simulations=32,
    )


def _of_functions() -> Measurement:
    return point_measurement(torch.zeros(len(SENSORS), dtype=torch.float64), torch.tensor(SENSORS), POINTS, "1")


def _fitted(measurement: Measurement) -> FittedField:
    """The law that `reconstruct` fits where no prior is named."""
    return fit_to_points(measurement, None, FitOptions(), 0, None)


def _zero(grid: Grid) -> Tensor:
    return torch.zeros((1, 1, *grid.shape), dtype=torch.float64)


def _noise(variance: float) -> GaussianNoise:
    return GaussianNoise(torch.tensor(variance, dtype=torch.float64))
