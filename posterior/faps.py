r"""Flow annealing posterior sampling with the flow-consistent local law.

Shi, Ross & Yue 2026, "Flow Annealing Posterior Sampling for Function-Space Regression and Inverse Problems" (arXiv
2606.22346) anneal a field from the source to data: at each level an estimate of u_1 is corrected by the data and
bridged back to the next level. Their local law of u_1 given u_t is N(flow endpoint, lambda^2 C);
`posterior.faps_published` has it as published. Here it is the law that the flow itself implies for a prior of
covariance C,

    u_1 | u_t ~ N( u_t + (1 - t) v(u_t, t),  C - t^2 C P^{-1} C ),    P = t^2 C + (1 - t)^2 C_0,

so that for a Gaussian prior every level, even a single one, is exact; for other priors the mean stays exact and the
covariance is the Gaussian one.

| paper | here |
| --- | --- |
| u_t = t u_1 + (1 - t) u_0 | the same, sigma_min = 0 |
| gamma = N(0, C_0), `prior.source` | C_0 |
| K levels t_k = k / K | `levels` |
| M Euler steps to the endpoint | one velocity call |
| J Langevin steps | a draw in closed form |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from infield import InfieldError
from infield.physics.measurement import Measurement
from infield.posterior.linear_gaussian import LinearGaussianData
from infield.posterior.sampler import Draws, Sampler
from infield.posterior.streams import Randomness, normal
from infield.priors.bridge import Bridge
from infield.priors.prior import Prior, denoise


@dataclass(frozen=True, kw_only=True)
class FAPS(Sampler):
    """FAPS with the flow-consistent law, for linear operators and Gaussian noise.

    Arguments:
        levels: K; None takes 1 where the prior is Gaussian, since one level then is exact, and the paper's 40
        elsewhere.
    """

    levels: int | None = None

    method: ClassVar[str] = "faps-flow"

    def __post_init__(self) -> None:
        if self.levels is not None and self.levels < 1:
            raise InfieldError(f"sampler faps: levels must be at least 1, found {self.levels}")

    def draw(self, prior: Prior, measurement: Measurement, n: int, generator: Randomness) -> Draws:
        K = self.levels or (1 if prior.gaussian else 40)
        C, C_0 = prior.covariance, prior.source
        data = LinearGaussianData(measurement, C.modes)

        def source() -> Tensor:
            white = normal(generator, n, C_0.event_shape, C_0.diagonal.device)
            return C_0.colour(white, white.new_zeros((n, 0)))

        u_t = u_1 = source()
        for k in range(K):
            t, t_next = k / K, (k + 1) / K
            m = denoise(prior, u_t, t)  # E[u_1 | u_t], exact for any prior
            u_1 = data.draw(m, Bridge(C, C_0, t).conditional(), generator)  # N(u_1; m, K_t) N(y; A u_1, R)
            if t_next < 1:
                u_t = t_next * u_1 + (1 - t_next) * source()  # bridge to the next level
        return Draws(u_1)
