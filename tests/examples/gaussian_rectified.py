"""Posterior mean and rectified flow in closed form, for tests of what trains them and of what uses them.

Fields are white, standard normal in standardised units; half of the points are seen with noise s. There the posterior
mean has the variance a = 1 / (1 + s^2), elsewhere none, and everything is Gaussian:

    x_t = t x_1 + (1 - t) (f + sigma_s e),   V(t) = t^2 + 2 t (1 - t) a + (1 - t)^2 (a + sigma_s^2),
    v(x, t) = V'(t) / (2 V(t)) x,   x_1 = x_0 / sqrt(a + sigma_s^2).
"""

from __future__ import annotations

import torch
from torch import nn

from infield.core.grid import Grid
from infield.datasets.training.operator_families import Inpainting
from infield.physics.operators.sensors import Mask
from infield.priors.amortised.unrolled import Unrolled
from infield.priors.base import Standardisation
from infield.priors.networks.mlp import Perceptron

POINTS, NOISE, SPREAD = 60, 0.5, 0.3
GRID = Grid.regular((POINTS,), 1.0, periodic=True)
MASK = torch.arange(POINTS) % 4 < 2
OF_MEAN = torch.where(MASK, 1 / (1 + NOISE**2), 0.0).double()
"""a, at every point."""


class SeesHalf(Inpainting):
    """The same points every time."""

    def draw(self, grid, channels, generator):
        return Mask(grid, channels, MASK)


class ExactFlow(nn.Module):
    """v, and what is added to it: `theta` times 1, x, t x and x at the seen points."""

    def __init__(self, spread: float = SPREAD) -> None:
        super().__init__()
        self.spread, self.theta = spread, nn.Parameter(torch.zeros(4, dtype=torch.float64))

    def forward(self, x, t):
        t, a, power = t[:, None, None], OF_MEAN, self.spread**2
        variance = t**2 + 2 * t * (1 - t) * a + (1 - t) ** 2 * (a + power)
        slope = 2 * t + 2 * (1 - 2 * t) * a - 2 * (1 - t) * (a + power)
        features = torch.stack([torch.ones_like(x), x, t * x, MASK * x])
        return slope / (2 * variance) * x + torch.einsum("i,i...->...", self.theta, features)


def exact_mean(shift: float = 0.0, scale: float = 1.0, units: str = "1") -> Unrolled:
    """f: the data's step from zero, after which nothing moves."""
    return Unrolled(
        name="exact",
        network=Perceptron(1, (POINTS,), 4, 1, inputs=3, times=2).eval().requires_grad_(False),
        standardisation=Standardisation(torch.full((1, 1), shift).double(), torch.full((1, 1), scale).double()),
        event_shape=(1, POINTS),
        noise=(0.0, 1.0),
        serves={"operator": "mask", "numbers": {"observed": [0.4, 0.6]}},
        units=units,
        channels=("a",),
        variances=torch.tensor([1.0, 1e-12], dtype=torch.float64),
    )
