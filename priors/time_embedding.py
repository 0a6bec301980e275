"""Features of time for a network: sinusoids of t, and of log(t / (1 - t)), which resolves both ends."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

_NEAREST = 1e-4
"""How near to t = 0 and t = 1 the logarithmic features still tell times apart."""


class TimeEmbedding(nn.Module):
    """A vector of `width` numbers for every time.

    Arguments:
        width: Length of the vector.
        frequencies: Number of octaves of sinusoids, in t and in its logarithm each.
    """

    def __init__(self, width: int, frequencies: int = 8) -> None:
        super().__init__()
        self.frequencies = frequencies
        self.layers = nn.Sequential(nn.Linear(4 * frequencies, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU())

    def forward(self, t: Tensor) -> Tensor:
        """Times of shape `(batch,)` to vectors of shape `(batch, width)`."""
        octaves = 2.0 ** torch.arange(self.frequencies, device=t.device, dtype=t.dtype)
        log_odds = (t + _NEAREST).log() - (1 - t + _NEAREST).log()
        span = 2 * math.log(1 / _NEAREST)
        angles = math.pi * torch.cat([t[:, None] * octaves, log_odds[:, None] / span * octaves], dim=1)
        return self.layers(torch.cat([angles.sin(), angles.cos()], dim=1))
