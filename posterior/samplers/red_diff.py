r"""RED-Diff: a variational estimate under a flow prior, by stochastic optimisation. It seeks modes; it is no posterior.

Mardani, Song, Kautz & Vahdat 2023, "A Variational Perspective on Solving Inverse Problems with Diffusion Models" (arXiv
2305.04391), fit q(x_1 | y) = N(mu, sigma^2) to the posterior and let sigma -> 0: mu descends the misfit of the data
plus what a denoiser takes for noise in a noised mu. So each sample is one field near which the posterior is large, and
**the spread of the samples is not that of the posterior**: it is what the noise of the descent leaves.

| paper | here |
| --- | --- |
| x_t = alpha_t mu + sigma_t eps, t = T ... 1 | x_t = t mu + (1 - t) x_0, t upwards from 0, source, to 1, data |
| eps ~ N(0, 1) | x_0 = C_0^{1/2} eps ~ N(0, C_0), `prior.source`, white or coloured |
| 1 / SNR_t = sigma_t / alpha_t | (1 - t) / t |
| eps_theta(x_t, t) | C_0^{-1/2} (x_t - t v(x_t, t)), hence eps_theta - eps = SNR_t C_0^{-1/2} (mu - E[x_1 | x_t]) |
| w_t = lambda f(1 / SNR_t) | `weight` times `weighting` |
| the gradient of a loss, Adam | the gradient in the inner product of C_0^{-1}, C_0 grad; Adam |

The paper's source is white; so is ours in the coordinates C_0^{-1/2} x, where its gradient is
w_t (eps_theta - eps) - C_0^{1/2} grad log p(y | mu). Times C_0^{1/2}, it is the change of the field itself:

    g = w_t SNR_t (mu - E[x_1 | x_t]) - C_0 grad log p(y | mu),

which needs no inverse of C_0, makes sense on any grid, and is the paper's where C_0 = 1. With the paper's weighting,
f(r) = r, the first term is lambda (mu - E[x_1 | x_t]) at every t, finite at both ends.

Where the prior is Gaussian of covariance C, g is zero on average at the posterior mean under another covariance,
(SNR_t^2 C + C_0) / lambda: the source's at first, and a growing multiple of C at last. So places without data are
filled as the posterior mean fills them, but the last steps fit the noise of the data wherever they can: with noisy data
everywhere it is far from the posterior mean unless `weight` is large and `rate` small.

The paper takes means of squares, over data and over pixels, in place of the log-likelihood; its lambda / v, 0.25 by
default, is (sigma^2 pixels / data) times ours for data with noise of variance sigma^2.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from infield.core.errors import InfieldError
from infield.core.randomness import Randomness, normal
from infield.physics.measurement import Measurement
from infield.posterior.inference.langevin import check_finite
from infield.posterior.inference.likelihood import value_and_gradient
from infield.posterior.samplers.base import Draws, Estimate, Posterior, Sampler
from infield.priors.base import FlowPrior, denoise

WEIGHTINGS: dict[str, Callable[[float], float]] = {
    "linear": lambda r: r,
    "sqrt": math.sqrt,
    "square": lambda r: r**2,
    "log": math.log1p,
    "clip": lambda r: min(r, 1.0),
    "power2over3": lambda r: r ** (2 / 3),
    "constant": lambda r: 1.0,
}
"""f(1 / SNR_t), by the names of the authors' code; they prefer the first."""


@dataclass(frozen=True, kw_only=True)
class REDDiff(Sampler):
    """RED-Diff for any operator with a derivative and any noise model. Its spread is not a posterior.

    Every sample is an optimisation of its own, started at the prior's mean or at a draw of the prior's covariance.

    Arguments:
        steps: K, velocity evaluations of each sample, one at each t = (k + 1/2) / K.
        weight: lambda, of the regulariser beside the log-likelihood.
        weighting: f, one of `WEIGHTINGS`.
        rate: Step length of Adam, in standardised units.
        beta_1, beta_2: Adam's decays.
        start: `mean`, where the samples differ by the noise of the descent alone; or `draw`.
    """

    steps: int = 1000
    weight: float = 4.0
    weighting: str = "linear"
    rate: float = 0.03
    beta_1: float = 0.9
    beta_2: float = 0.99
    start: str = "mean"

    method: ClassVar[str] = "red-diff"
    result: ClassVar[type[Posterior]] = Estimate
    caveat: ClassVar[str | None] = (
        "red-diff seeks modes: each sample is a best estimate, and their spread is not a posterior; do not read "
        "standard deviations or intervals from them"
    )

    def __post_init__(self) -> None:
        for name, value, known in (("weighting", self.weighting, WEIGHTINGS), ("start", self.start, ("mean", "draw"))):
            if value not in known:
                raise InfieldError(
                    where="sampler red-diff", found=f"{name}={value!r}", expected=f"one of {', '.join(known)}"
                )
        if self.steps < 1 or not self.weight >= 0 or not self.rate > 0:
            raise InfieldError(
                where="sampler red-diff",
                found=f"steps={self.steps}, weight={self.weight}, rate={self.rate}",
                expected="at least one step, a weight of at least 0 and a positive rate",
            )
        if not (0 <= self.beta_1 < 1 and 0 <= self.beta_2 < 1):
            raise InfieldError(
                where="sampler red-diff",
                found=f"beta_1={self.beta_1}, beta_2={self.beta_2}",
                expected="numbers from 0 to below 1",
            )

    def draw(self, prior: FlowPrior, measurement: Measurement, n: int, generator: Randomness) -> Draws:
        K, C, C_0 = self.steps, prior.covariance, prior.source

        def noise(*shape: int) -> Tensor:
            return normal(generator, n, shape, C_0.diagonal.device)

        mu = prior.mean.expand(n, *C_0.event_shape).clone()
        if self.start == "draw":
            mu = mu + C.colour(noise(*C.event_shape), noise(*C.event_shape) if C.rank else None)
        adam = torch.optim.Adam([mu], lr=self.rate, betas=(self.beta_1, self.beta_2))
        for k in range(K):
            t = (k + 0.5) / K  # from noise to data: the paper's t = T ... 1
            x_0 = C_0.colour(noise(*C_0.event_shape))
            _, slope = value_and_gradient(measurement, mu)
            mu.grad = self.weight * regulariser(prior, mu, x_0, t, self.weighting) - C_0.apply(slope)
            check_finite(mu.grad, generator, f"in the gradient of step {k} of {K}")
            adam.step()
        return Draws(mu)


def regulariser(prior: FlowPrior, mu: Tensor, x_0: Tensor, t: float, weighting: str = "linear") -> Tensor:
    """f(1 / SNR_t) C_0^{1/2} (eps_theta - eps), the paper's gradient without lambda, as the change of a field.

    Arguments:
        prior: The prior.
        mu: Fields, shape `(batch, channel, *space)`.
        x_0: Draws of the source, same shape.
        t: 0 < t < 1.
        weighting: One of `WEIGHTINGS`.
    """
    r = (1 - t) / t  # 1 / SNR_t
    x_t = t * mu + (1 - t) * x_0
    return WEIGHTINGS[weighting](r) / r * (mu - denoise(prior, x_t, t))
