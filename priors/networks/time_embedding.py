"""Features of time for a network: sinusoids of t, and of log(t / (1 - t)), which resolves both ends."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_NEAREST = 1e-4
"""Distance from t = 0 and t = 1 down to which the logarithmic features resolve times."""


class TimeEmbedding(nn.Module):
    """A vector of `width` numbers for every time.

    Arguments:
        width: Length of the vector.
        frequencies: Number of octaves of sinusoids, in t and in its logarithm each.
        ends: With the logarithm. Without it the vector has a derivative in t that stays small, which is what a network
            needs that is differentiated in time.
    """

    def __init__(self, width: int, frequencies: int = 8, ends: bool = True) -> None:
        super().__init__()
        self.frequencies, self.ends = frequencies, ends
        features = 2 * frequencies * (2 if ends else 1)
        self.layers = nn.Sequential(nn.Linear(features, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())

    def forward(self, t: Tensor) -> Tensor:
        """Times of shape `(batch,)` to vectors of shape `(batch, width)`."""
        octaves = 2.0 ** torch.arange(self.frequencies, device=t.device, dtype=t.dtype)
        if not self.ends:
            angles = math.pi / 2 * t[:, None] * octaves
            return self.layers(torch.cat([angles.sin(), angles.cos()], dim=1))
        log_odds = (t + _NEAREST).log() - (1 - t + _NEAREST).log()
        span = 2 * math.log(1 / _NEAREST)
        angles = math.pi * torch.cat([t[:, None] * octaves, log_odds[:, None] / span * octaves], dim=1)
        return self.layers(torch.cat([angles.sin(), angles.cos()], dim=1))


class Numbers(nn.Module):
    """One vector for several numbers in [0, 1] each, smooth in all of them.

    Arguments:
        width: Length of the vector.
        count: Number of features.
    """

    def __init__(self, width: int, count: int) -> None:
        super().__init__()
        self.each = nn.ModuleList(TimeEmbedding(width, frequencies=4, ends=False) for _ in range(count))

    def forward(self, numbers: Tensor) -> Tensor:
        """Numbers of shape `(batch, count)` to vectors of shape `(batch, width)`."""
        return torch.stack([part(number) for part, number in zip(self.each, numbers.T, strict=True)]).sum(0)
