r"""Mean and standard deviation of the values in a slice of a lightcone, as functions of its distance and of parameters.

A conditional flow has an easier task if what follows from a few numbers alone is first removed from the fields: the
history of the sky mean and of its standard deviation. A small network maps (theta, s), parameters and distance, to mu
and sigma of each channel. It is fitted by maximum likelihood for voxels N(mu, sigma^2); a slice with mean m and
variance v adds

.. math:: n \frac{(m - \mu)^2}{2 \sigma^2} \;+\; \log \sigma + \frac{v + (m - \mu)^2}{2 \sigma^2},

the first term for mu at a given sigma (a slice has n regions that are independent of each other), the second one for
sigma at a given mu. What the network does not predict, such as the scatter of slices between seeds, stays in the
fields.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from infield.priors.cm21.slice_network import SliceNetwork, fit_to_slices

REGIONS = 20.0
"""n: number of independent regions per slice."""

COURSE = (0.025, 0.06)
"""Distances to both sides of a slice at which differences of the mean are taken."""

FLOOR = 0.03
"""Minimum sigma in units of the values: a fully ionised slice does not vary, and must not be divided by 0."""


class SliceStatistics(SliceNetwork):
    """mu and sigma as functions of parameters and position in [0, 1].

    Arguments:
        parameters: Number of parameters.
        channels: Channels of the fields.
        width: Width of the three hidden layers.
    """

    def __init__(self, parameters: int, channels: int, width: int = 128) -> None:
        super().__init__(parameters, channels, width, outputs=2, hidden=3, zero=False)

    def forward(self, theta: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """mu and sigma, shape `(batch, channels, los)` each, of parameters `(batch, parameters)` and places
        `(batch, los)`."""
        mu, spread = self.numbers(theta, s).movedim(-1, 1).chunk(2, dim=1)
        return mu, (FLOOR**2 + functional.softplus(spread).square()).sqrt()

    def course(self, theta: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        """Return the history of the mean at each slice, shape `(batch, los, self.n_features)`: mu, its differences and
        second differences; and log sigma, shape `(batch, los, channels)`."""
        mu, sigma = self(theta, s)
        features = [mu]
        for away in COURSE:
            (before, _), (after, _) = self(theta, s - away), self(theta, s + away)
            features += [(after - before) / (10 * away), after + before - 2 * mu]
        return torch.cat(features, dim=1).movedim(1, -1), sigma.log().movedim(1, -1)

    @property
    def n_features(self) -> int:
        """Number of these values."""
        channels: int = self.arguments["channels"]
        return channels * (1 + 2 * len(COURSE))


def fit_slice_statistics(
    mean: Tensor,
    variance: Tensor,
    theta: Tensor,
    s: Tensor,
    *,
    seed: int,
    steps: int = 6000,
    batch: int = 1024,
    device: torch.device | str = "cpu",
) -> SliceStatistics:
    """The network with the greatest likelihood, found by Adam with a cosine schedule; half a minute of a core.

    Arguments:
        mean, variance: Mean and variance of the slices of training lightcones, shape `(cones, channels, los)`.
        theta: Parameters of the cones in [0, 1], shape `(cones, parameters)`.
        s: Places of the slices in [0, 1], shape `(los,)`.
        seed: Random seed of initial weights and batches.
        steps, batch: Training steps, and slices per step.
        device: Device of the training; the result is on the CPU.
    """
    model = SliceStatistics(theta.shape[1], mean.shape[1]).to(device)
    mean, variance, theta, s = (values.float().to(device) for values in (mean, variance, theta, s))

    def loss(cones: Tensor, slices: Tensor) -> Tensor:
        mu, sigma = (found[..., 0] for found in model(theta[cones], s[slices, None]))
        m, v = mean[cones, :, slices], variance[cones, :, slices]
        given = REGIONS * ((m - mu) / sigma.detach()).square() / 2
        return (given + sigma.log() + (v + (m - mu.detach()).square()) / (2 * sigma.square())).mean()

    fit_to_slices(model, loss, len(mean), range(len(s)), seed=seed, steps=steps, batch=batch, rate=3e-3)
    return model.cpu().eval().requires_grad_(False)
