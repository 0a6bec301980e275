r"""Laws whose denoiser is exact: what every sampler of a bridge must reproduce.

`GammaLaw`: :math:`x \sim \mathrm{Gamma}(a, b)`, so that :math:`D = (a + B) / (b + \tau)`,
:math:`V = D / (b + \tau)`, and :math:`B_T \sim \mathrm{NegBin}(a, b / (b + T))`.

`CommonFactorLaw`: values with one common factor c, :math:`x_j \mid c \sim \mathrm{Gamma}(k, k / c)`, where c takes some
values with some probabilities; counts of all values then inform c.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor

from infield.priors.bridges.channels import Moments


@dataclass(frozen=True)
class GammaLaw:
    """Independent Gamma variables; as a denoiser, it is exact.

    Arguments:
        a: Shape.
        b: Rate.
    """

    a: float
    b: float

    def __call__(self, state: Tensor, tau: float, context: Any = None) -> Moments:
        mean = (self.a + state) / (self.b + tau)
        return Moments(mean, mean / (self.b + tau))

    def sample(self, shape: tuple[int, ...], generator: Generator) -> Tensor:
        return torch._standard_gamma(torch.full(shape, self.a, dtype=torch.float64), generator=generator) / self.b

    def log_marginal(self, counts: Tensor, tau: float) -> Tensor:
        """log p_tau(B), the negative binomial, summed over the last axis."""
        terms = torch.lgamma(self.a + counts) - torch.lgamma(counts + 1) - math.lgamma(self.a)
        return (terms + self.a * math.log(self.b / (self.b + tau)) + counts * math.log(tau / (self.b + tau))).sum(-1)

    def plain_sd_ratio(self, clock: tuple[float, ...]) -> float:
        """Standard deviation of plain steps over the law's, in closed form: the end D(B_T) is a martingale whose steps
        have the variance h (a / b) / (b + tau')^2."""
        times = [0.0, *clock]
        found = sum((y - x) * (self.a / self.b) / (self.b + y) ** 2 for x, y in zip(times, clock, strict=False))
        return math.sqrt(found / (self.a / self.b**2))


@dataclass(frozen=True)
class CommonFactorLaw:
    """Values of mean c with a spread of their own, c common to all of them; as a denoiser, it is exact.

    Arguments:
        nodes: Values of c, above 0, float64.
        weights: Their probabilities.
        k: Shape of the Gamma variables: their own relative variance is 1 / k.
        rank: 1: the covariance comes with its common factor; 0: the variances alone.
    """

    nodes: Tensor
    weights: Tensor
    k: float
    rank: int = 1

    @classmethod
    def lognormal(cls, sd: float, own: float, rank: int = 1, nodes: int = 65) -> CommonFactorLaw:
        """c about log-normal of mean 1 and this standard deviation, the own one relative to c."""
        sigma = math.sqrt(math.log1p(sd**2))
        z = torch.linspace(-5, 5, nodes, dtype=torch.float64)
        weights = torch.exp(-z.square() / 2)
        return cls(torch.exp(sigma * z - sigma**2 / 2), weights / weights.sum(), 1 / own**2, rank)

    def factor_weights(self, state: Tensor, tau: float) -> Tensor:
        """p(c | B), `(batch, nodes)`; it depends on the sum of the counts alone."""
        n, total, rate = state.shape[1], state.sum(1), self.k / self.nodes
        log = self.weights.log() + n * self.k * rate.log() - (n * self.k + total)[:, None] * (rate + tau).log()
        return log.softmax(1)

    def __call__(self, state: Tensor, tau: float, context: Any = None) -> Moments:
        p = self.factor_weights(state, tau)
        r = 1 / (self.k / self.nodes + tau)  # given c: mean (k + B) r, variance (k + B) r^2
        first, second = p @ r, p @ r.square()
        mean = (self.k + state) * first[:, None]
        spread = (self.k + state) * (second - first.square()).clamp_min(0).sqrt()[:, None]  # of the mean, over c
        own = (self.k + state) * second[:, None]
        return Moments(mean, own, spread[:, None]) if self.rank else Moments(mean, own + spread.square())

    def sample(self, batch: int, values: int, generator: Generator) -> Tensor:
        c = self.nodes[torch.multinomial(self.weights, batch, replacement=True, generator=generator)]
        shape = torch.full((batch, values), self.k, dtype=torch.float64)
        return c[:, None] * torch._standard_gamma(shape, generator=generator) / self.k

    def mean_variance(self, values: int) -> float:
        """Variance of the mean of some values."""
        first, second = float(self.weights @ self.nodes), float(self.weights @ self.nodes.square())
        return second - first**2 + second / self.k / values

    def log_marginal(self, counts: Tensor, tau: float) -> Tensor:
        """log p_tau(B), a mixture of negative binomials."""
        rate, k, b = self.k / self.nodes, self.k, counts[:, :, None]
        terms = torch.lgamma(k + b) - torch.lgamma(b + 1) - math.lgamma(k)
        terms = terms + k * (rate / (rate + tau)).log() + b * (tau / (rate + tau)).log()
        return (self.weights.log() + terms.sum(1)).logsumexp(1)
