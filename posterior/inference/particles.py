"""Weighted particles: effective share, systematic resampling, and the evidence that resampling would lose."""

from __future__ import annotations

import math

import torch
from torch import Tensor


class ParticleWeights:
    """Log weights of particles that interact through resampling.

    Arguments:
        log_weights: Unnormalised, shape `(particles,)`; their mean weight estimates a normalising constant.
    """

    def __init__(self, log_weights: Tensor) -> None:
        self.log_weights = log_weights
        self.log_normaliser = 0.0
        self.resampled = 0
        self.least_share = self.ess_fraction

    @property
    def weights(self) -> Tensor:
        """Normalised weights, shape `(particles,)`."""
        return torch.softmax(self.log_weights, 0)

    @property
    def ess_fraction(self) -> float:
        """1 / sum w^2 over the number of particles (Kong 1992), in (0, 1]."""
        return float(1 / self.weights.square().sum()) / len(self.log_weights)

    @property
    def log_evidence(self) -> float:
        """Log of the product of the mean weights so far."""
        return self.log_normaliser + float(torch.logsumexp(self.log_weights, 0)) - math.log(len(self.log_weights))

    def reweigh(self, log_factors: Tensor) -> None:
        self.log_weights = self.log_weights + log_factors
        self.least_share = min(self.least_share, self.ess_fraction)

    def choose(self, n: int, uniform: Tensor) -> Tensor:
        """Indices of n particles by systematic resampling (Carpenter, Clifford & Fearnhead 1999), in increasing order.

        Arguments:
            uniform: One number in [0, 1).
        """
        places = (torch.arange(n, dtype=self.log_weights.dtype) + uniform) / n
        return torch.searchsorted(self.weights.cumsum(0), places).clamp_max(len(self.log_weights) - 1)

    def resample(self, uniform: Tensor) -> Tensor:
        """Indices of the survivors; afterwards all weights are equal, and their mean is kept in `log_evidence`."""
        chosen = self.choose(len(self.log_weights), uniform)
        self.log_normaliser = self.log_evidence
        self.log_weights = torch.zeros_like(self.log_weights)
        self.resampled += 1
        return chosen
