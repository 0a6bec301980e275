r"""The law of two-phase fields itself, as a reference for priors that learned it: chains over the level-set function.

A two-phase field is the sign of a Gaussian field g, so that its posterior is that of g under the operator A o step
(Iglesias, Lu & Stuart 2016, "A Bayesian level set method for geometric inverse problems", arXiv 1504.00313). The prior
of g is known, and no network takes part. The step has no derivative: the chains of `posterior.inference.langevin` take
that of a smooth step for their drift, and their Metropolis correction has the likelihood of the sharp one.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Generator, Tensor

from infield.core._deepinv import Physics
from infield.core.calls import Calls
from infield.core.grid import Grid
from infield.physics.measurement import Measurement
from infield.physics.operators.base import plain_physics
from infield.physics.operators.composition import compose
from infield.posterior.inference.laplace import find_map
from infield.posterior.inference.whitening import Whitening
from infield.posterior.samplers.faps import LangevinConditional
from infield.priors.covariance.base import Covariance
from infield.priors.covariance.modes import Pixels
from infield.priors.random_fields.spectral import SpectralField, TwoPhaseField

CELLS = 1.0
"""Width of the smooth step, in changes of g from one point to the next (root mean square)."""


class LevelSet(Physics):
    """White noise to the two-phase field of a law: g is its series with these coefficients.

    Arguments:
        grid: Domain of the field.
        law: Of the field.
        sharp: The field itself, with the derivative of the smooth one; if not, the smooth one.
    """

    name = "level-set"

    def __init__(self, grid: Grid, law: TwoPhaseField, *, sharp: bool) -> None:
        super().__init__(**plain_physics())
        self.grid = self.data_grid = grid
        self.channels, self.data_shape = 1, (1, *grid.shape)
        self.law, self.sharp = law, sharp
        g = self.function(torch.randn((64, *self.data_shape), generator=Generator().manual_seed(0)).double())
        self.width = CELLS * float(g.diff(dim=-1).square().mean().sqrt())

    def function(self, white: Tensor) -> Tensor:
        """g, shape of `white`, `(batch, 1, *space)`."""
        return SpectralField.draw(self.law, self.grid, lambda shape: white[:, 0])[:, None]

    def A(self, x: Tensor) -> Tensor:
        g = self.function(x)
        low, high = self.law.values
        smooth = low + (high - low) * torch.sigmoid(g / self.width)
        if not self.sharp:
            return smooth
        field = torch.where(g >= 0, high, low)
        return smooth + (field - smooth).detach()


def level_set_chains(
    law: TwoPhaseField, measurement: Measurement, n: int, generator: Generator, *, steps: int, rank: int = 256
) -> tuple[Tensor, float]:
    """Draws of g under the law itself, one chain each.

    Arguments:
        law: Of the field.
        measurement: Of the field, on an open grid; any operator, any noise model.
        n: Draws.
        generator: Source of the random numbers.
        steps: Steps of each chain.
        rank: Most directions in which the data are linearised.

    Returns:
        g, shape `(n, 1, *space)`, and operator calls a draw.
    """
    counted = Calls(measurement.operator, "A", derivatives=True)
    grid = measurement.grid
    assert isinstance(grid, Grid)

    def of_noise(sharp: bool) -> Measurement:
        return replace(measurement, operator=compose(counted.counted, LevelSet(grid, law, sharp=sharp)), truth=None)

    white = Covariance.diagonal_in(Pixels(), torch.ones((1, *grid.shape), dtype=torch.float64))
    mean = torch.zeros((1, 1, *grid.shape), dtype=torch.float64)
    with torch.no_grad():
        chains = LangevinConditional(
            of_noise(sharp=True), find_map(of_noise(sharp=False), mean, Whitening(white), rank)
        )
        coefficients = chains.draw(mean.expand(n, *mean.shape[1:]), white, steps, generator)
        return LevelSet(grid, law, sharp=True).function(coefficients), counted.fields / n
