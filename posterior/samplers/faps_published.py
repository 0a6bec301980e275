r"""Flow annealing posterior sampling as published.

Shi, Ross & Yue 2026, "Flow Annealing Posterior Sampling for Function-Space Regression and Inverse Problems", arXiv
2606.22346; constants and order of operations follow the authors' released code. `posterior.samplers.faps` replaces its
local conditional by the one that the flow implies.

| paper, code | here |
| --- | --- |
| u_t = t u_1 + (1 - t) u_0 + sigma_min xi | the same; s(t) = sqrt((1 - t)^2 + sigma_min^2) |
| gamma = N(0, C_0), `prior.source` | C_0 |
| K, M, J, h, tau | `levels`, `flow_steps`, `langevin_steps`, `step`, `temperature` |
| lam_base, lam_scale | `spread_floor`, `spread` |
| preconditioner C, rank r from 256 flow draws | `rank`, `rank_draws` |

The paper's C is an N-by-N matrix with a dense Cholesky factor; here the same C stays factored.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from infield.core.errors import InfieldError
from infield.core.randomness import Randomness, normal
from infield.physics.measurement import Measurement
from infield.posterior.samplers.base import Draws, Sampler
from infield.priors.base import FlowPrior
from infield.priors.covariance.base import Covariance
from infield.priors.covariance.modes import Pixels


@dataclass(frozen=True, kw_only=True)
class FAPSPublished(Sampler):
    """FAPS with the published local conditional N(flow endpoint, lambda^2 C) and preconditioned Langevin steps.

    Valid for any operator with a vector-Jacobian product and any noise model with a gradient. Its draws are biased even
    where the prior is perfect (docs/benchmarks, bench gp-regression): use it to compare, and where `faps` does not
    apply.

    Arguments:
        levels: K.
        flow_steps: M, Euler steps from each level to t = 1.
        langevin_steps: J.
        step: h.
        temperature: tau, weight of the likelihood.
        spread: Local standard deviation lambda is `spread` (1 - t) ...
        spread_floor: ... but at least this.
        rank: r, leading directions of the preconditioner C; 0 takes C = 1.
        rank_draws: Prior draws from which C is estimated.
        rank_steps: Euler steps of each of these draws.
        rank_seed: Seed of these draws, the same for every batch of samples.
    """

    levels: int = 40
    flow_steps: int = 20
    langevin_steps: int = 50
    step: float = 1e-3
    temperature: float = 1.0
    spread: float = 1.0
    spread_floor: float = 0.05
    rank: int = 32
    rank_draws: int = 256
    rank_steps: int = 20
    rank_seed: int = 0

    method: ClassVar[str] = "faps-published"
    sigma_min: ClassVar[float] = 1e-4

    def __post_init__(self) -> None:
        least = {"levels": 1, "flow_steps": 1, "langevin_steps": 0, "rank": 0, "rank_draws": 2, "rank_steps": 1}
        for name, value in {**least, "step": 0.0, "temperature": 0.0, "spread": 0.0}.items():
            if not getattr(self, name) >= value:
                raise InfieldError(
                    where=f"sampler {self.method}", found=f"{name}={getattr(self, name)}", expected=f"at least {value}"
                )
        if not self.spread_floor > 0:
            raise InfieldError(
                where=f"sampler {self.method}", found=f"spread_floor={self.spread_floor}", expected="more than 0"
            )

    def draw(self, prior: FlowPrior, measurement: Measurement, n: int, generator: Randomness) -> Draws:
        K, J, h, C_0 = self.levels, self.langevin_steps, self.step, prior.source
        C = self.preconditioner(prior)

        def s(t: float) -> float:
            return math.sqrt((1 - t) ** 2 + self.sigma_min**2)

        def noise(covariance: Covariance) -> Tensor:
            def white() -> Tensor:
                return normal(generator, n, covariance.event_shape, covariance.diagonal.device)

            return covariance.colour(white(), white() if covariance.rank else None)

        u = s(0) * noise(C_0)
        for k in range(K):
            t, t_next = k / K, (k + 1) / K
            u_hat = euler(prior, u, t, self.flow_steps)  # (a) endpoint anchor
            lam = max(self.spread_floor, self.spread * (1 - t))
            c = u_hat
            for _ in range(J):  # (b) Langevin correction, invariant law N(c; u_hat, lam^2 C) p(y | c)^tau
                drift = -(c - u_hat) / lam**2 + self.temperature * C.apply(measurement.gradient(c))
                c = c + h * drift + math.sqrt(2 * h) * noise(C)
            u = t_next * c + s(t_next) * noise(C_0) if t_next < 1 else c  # (c) bridge to the next level
        return Draws(u)

    def preconditioner(self, prior: FlowPrior) -> Covariance:
        """C = V_r diag(e) V_r^T + (rho + 1e-5) 1 from draws of the flow, rho the mean of the eigenvalues left out."""
        shape = prior.source.event_shape
        if self.rank == 0:
            return Covariance.diagonal_in(Pixels(), torch.ones(shape, dtype=torch.float64))
        u_0 = prior.source.sample(self.rank_draws, Generator().manual_seed(self.rank_seed))
        u_1 = euler(prior, u_0, 0.0, self.rank_steps)
        _, sigma, V = torch.linalg.svd((u_1 - u_1.mean(0)).flatten(1), full_matrices=False)
        e, r = sigma**2 / (self.rank_draws - 1), self.rank
        rho = float(e[r:].sum()) / max(len(e) - r, 1) + 1e-5
        factors = (e[:r].sqrt()[:, None] * V[:r]).reshape(-1, *shape)
        return Covariance(Pixels(), torch.full(shape, rho, dtype=torch.float64), factors)


def euler(prior: FlowPrior, u: Tensor, t: float, steps: int) -> Tensor:
    """Integrate du/dt = v(u, t) from t to 1 in equal explicit Euler steps; shape of u."""
    dt = (1 - t) / steps
    for i in range(steps):
        u = u + dt * prior.velocity(u, t + i * dt)
    return u
