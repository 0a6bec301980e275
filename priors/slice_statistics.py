r"""Mean and standard deviation of the values in a slice of a lightcone, as functions of its distance and of parameters.

A conditional flow has an easier task where what follows from a few numbers alone is taken out of the fields first: the
history of the sky's mean and of its contrast. A small network maps (theta, s), parameters and distance, to mu and sigma
of each channel. It has the greatest likelihood if voxels are N(mu, sigma^2); a slice with mean m and variance v of its
own adds

.. math:: n \frac{(m - \mu)^2}{2 \sigma^2} \;+\; \log \sigma + \frac{v + (m - \mu)^2}{2 \sigma^2},

the first term for mu at a given sigma (a slice has n regions that are independent of each other), the second one for
sigma at a given mu. What it does not know, such as the scatter of slices between seeds, stays in the fields.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

REGIONS = 20.0
"""n: so many regions of a slice are taken as independent."""

FLOOR = 0.03
"""Least sigma, in the units of the values: where all is ionised nothing varies, and nothing is divided by 0."""


class SliceStatistics(nn.Module):
    """mu and sigma for parameters and places in [0, 1].

    Arguments:
        parameters: How many.
        channels: Of the fields.
        width: Of the two hidden layers.
    """

    def __init__(self, parameters: int, channels: int, width: int = 96) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {"parameters": parameters, "channels": channels, "width": width}
        inputs = 1 + parameters
        self.layers = nn.Sequential(
            nn.Linear(inputs, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, 2 * channels),
        )

    def forward(self, theta: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """mu and sigma, shape `(batch, channels, los)` each, of parameters `(batch, parameters)` and places
        `(batch, los)`."""
        theta = theta[:, None].expand(-1, s.shape[1], -1)
        found = self.layers(2 * torch.cat([s[..., None], theta], dim=-1) - 1).movedim(-1, 1)
        mu, spread = found.chunk(2, dim=1)
        return mu, (FLOOR**2 + functional.softplus(spread).square()).sqrt()


def fit_slice_statistics(
    mean: Tensor,
    variance: Tensor,
    theta: Tensor,
    s: Tensor,
    *,
    seed: int,
    steps: int = 6000,
    batch: int = 4096,
    device: torch.device | str = "cpu",
) -> SliceStatistics:
    """The network with the greatest likelihood, found by Adam with a cosine schedule; half a minute of a core.

    Arguments:
        mean, variance: Of the slices of training cones, shape `(cones, channels, los)`.
        theta: Parameters of the cones in [0, 1], shape `(cones, parameters)`.
        s: Places of the slices in [0, 1], shape `(los,)`.
        seed: Of first weights and batches.
        steps, batch: Of the training; slices a step.
        device: Where it is trained; the result is on the CPU.
    """
    generator = Generator().manual_seed(seed)
    model = SliceStatistics(theta.shape[1], mean.shape[1])
    with torch.no_grad():
        for weights in model.parameters():
            bound = math.sqrt(3 / weights.shape[-1]) if weights.ndim > 1 else 0.0
            weights.copy_(bound * (2 * torch.rand(weights.shape, generator=generator) - 1))
    model.to(device)
    mean, variance, theta, s = (values.float().to(device) for values in (mean, variance, theta, s))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        cones = torch.randint(len(mean), (batch,), generator=generator).to(device)
        slices = torch.randint(mean.shape[2], (batch,), generator=generator).to(device)
        mu, sigma = (found[..., 0] for found in model(theta[cones], s[slices, None]))
        m, v = mean[cones, :, slices], variance[cones, :, slices]
        given = REGIONS * ((m - mu) / sigma.detach()).square() / 2
        loss = (given + sigma.log() + (v + (m - mu.detach()).square()) / (2 * sigma.square())).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
    return model.cpu().eval().requires_grad_(False)
