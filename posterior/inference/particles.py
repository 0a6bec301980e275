r"""Weighted particles: effective share, systematic resampling, and the evidence that resampling would lose.

Resampling hides how few of the first particles the last ones descend from. With W_f the weight of all descendants of
the f-th first particle, the relative variance of the evidence of N particles is estimated by

    N / (N - 1) (sum_f W_f^2 - 1 / N)

(Lee & Whiteley 2018, "Variance estimation in the particle filter", Biometrika 105, 609, eq. 3, without the factors that
multinomial resampling needs: systematic resampling leaves equal weights as they are), and 1 / sum_f W_f^2 is the
effective number of families.
"""

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
        self.first = torch.arange(len(log_weights))

    @property
    def weights(self) -> Tensor:
        """Normalised weights, shape `(particles,)`."""
        return torch.softmax(self.log_weights, 0)

    @property
    def ess_fraction(self) -> float:
        """1 / sum w^2 over the number of particles (Kong 1992), in (0, 1]."""
        return float(1 / self.weights.square().sum()) / len(self.log_weights)

    @property
    def families(self) -> float:
        """Effective number of first particles of which the particles descend, 1 / sum W_f^2."""
        shares = torch.zeros_like(self.weights).index_add(0, self.first, self.weights)
        return float(1 / shares.square().sum())

    @property
    def log_evidence_error(self) -> float:
        """Standard error of `log_evidence`: that of the evidence relative to it, at most 1."""
        n = max(len(self.log_weights), 2)
        return math.sqrt(max(1 / self.families - 1 / n, 0.0) * n / (n - 1))

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
        self.first = self.first[chosen]
        self.resampled += 1
        return chosen
