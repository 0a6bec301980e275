"""The Gaussian bridge x_t = t x_1 + (1 - t) x_0 between a source N(0, C_0) and data N(mu, C), in closed form.

Both covariances are diagonal plus low rank in the same modes, so every formula below costs O(N r):

    P = Cov(x_t) = t^2 C + (1 - t)^2 C_0 = diag(p) + t^2 F^T F,    p = t^2 d + (1 - t)^2 c,
    P^-1 by the Woodbury identity with the r-by-r matrix  M = I + t^2 F diag(1/p) F^T,
    Cov(x_1 | x_t) = C - t^2 C P^-1 C = diag((1 - t)^2 d c / p) + H^T M^-1 H,    H = F diag((1 - t)^2 c / p).

The last line is again diagonal plus low rank: it is the flow-consistent local conditional of `posterior.samplers.faps`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from infield.priors.covariance.base import Covariance


@dataclass(frozen=True)
class Bridge:
    """The joint law of x_0, x_1 and x_t for a Gaussian prior.

    Arguments:
        covariance: C, covariance of the data; rank r.
        source: C_0, covariance of the source, in the same modes, without a low-rank part.
        t: Time, 0 <= t < 1.
    """

    covariance: Covariance
    source: Covariance
    t: float

    @cached_property
    def p(self) -> Tensor:
        """Diagonal part of P, shape `(channel, *space)`."""
        return self.t**2 * self.covariance.diagonal + (1 - self.t) ** 2 * self.source.diagonal

    @cached_property
    def cholesky(self) -> Tensor:
        """Lower factor of M, shape `(r, r)`."""
        F = self.covariance.factors.flatten(1)
        M = self.t**2 * (F / self.p.flatten()) @ F.mT
        return torch.linalg.cholesky(M + torch.eye(len(M), dtype=M.dtype, device=M.device))

    def solve(self, c: Tensor) -> Tensor:
        """P^-1 c in the modes' coordinates, shape `(batch, channel, *space)`."""
        c = c / self.p
        if self.covariance.rank == 0:
            return c
        F = self.covariance.factors.flatten(1)
        weights = torch.cholesky_solve(F @ c.flatten(1).mT, self.cholesky)
        return c - self.t**2 * (weights.mT @ F).reshape(c.shape) / self.p

    def velocity(self, x_t: Tensor, mean: Tensor) -> Tensor:
        """E[x_1 - x_0 | x_t] = mu + (t C - (1 - t) C_0) P^-1 (x_t - t mu), shape `(batch, channel, *space)`."""
        modes = self.covariance.modes
        z = self.solve(modes.analyse(x_t - self.t * mean))
        z = self.t * self.covariance.apply_to_modes(z) - (1 - self.t) * self.source.diagonal * z
        return mean + modes.synthesise(z)

    def conditional(self) -> Covariance:
        """Cov(x_1 | x_t) = C - t^2 C P^-1 C, factored like C itself."""
        shrink = (1 - self.t) ** 2 * self.source.diagonal / self.p
        factors = self.covariance.factors
        if self.covariance.rank:
            H = (factors * shrink).flatten(1)
            factors = torch.linalg.solve_triangular(self.cholesky, H, upper=False).reshape(factors.shape)
        return Covariance(self.covariance.modes, shrink * self.covariance.diagonal, factors)

    def log_density(self, x_t: Tensor, mean: Tensor) -> Tensor:
        """log N(x_t; t mu, P) for fields x_t, shape `(batch,)`."""
        r = self.covariance.modes.analyse(x_t - self.t * mean)
        quadratic = (r * self.solve(r)).flatten(1).sum(1)
        log_det = self.p.log().sum() + 2 * self.cholesky.diagonal().log().sum()
        return -0.5 * (quadratic + log_det + r[0].numel() * math.log(2 * math.pi))
