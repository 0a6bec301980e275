"""An average velocity in closed form, for tests of what trains it and of what uses it."""

from __future__ import annotations

import torch
from torch import nn

from infield.priors.amortised.average_velocity import HALF_NOISE

TAU = 0.6


class GaussianAverage(nn.Module):
    """u(z, r, t | y) in closed form for white standard normal fields seen by a mask: source and posterior are Gaussian
    at every point, and the flow between them is a straight change of mean and deviation."""

    def __init__(self, tau: float = TAU) -> None:
        super().__init__()
        self.tau = tau
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, x, numbers):
        z, mean, mask = x.chunk(3, dim=1)
        r, t, s = (number.reshape(-1, *[1] * (z.ndim - 1)) for number in numbers.T)
        s = HALF_NOISE * s / (1 - s)
        power = self.tau**2
        left = torch.where(mask > 0.5, s**2 * power / (power + s**2), torch.full_like(z, power))  # of the source
        y = mean * (power + s**2) / power
        mu = torch.where(mask > 0.5, y / (1 + s**2), torch.zeros_like(z))
        variance = torch.where(mask > 0.5, s**2 / (1 + s**2), torch.ones_like(z))

        def m(time):
            return (1 - time) * mean + time * mu

        def squared(time):
            return (1 - time) ** 2 * left + time**2 * variance

        velocity = mu - mean + (t * variance - (1 - t) * left) / squared(t).clamp_min(1e-30) * (z - m(t))
        gap = torch.where(t > r, t - r, torch.ones_like(t))
        average = (m(t) + (squared(t) / squared(r).clamp_min(1e-30)).clamp_min(1e-30).sqrt() * (z - m(r)) - z) / gap
        u = torch.where(t > r, average, velocity)
        # `soft_null_projection` multiplies by this what is seen
        noisy = (mask > 0.5) & (s > 0)
        return torch.where(noisy, u * (1 + s) / s.clamp_min(1e-30), u) + 0 * self.unused
