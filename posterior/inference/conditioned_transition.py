r"""Steps from x_t to x_t' given linear data, exact for Gaussian priors at any number of steps.

With m(x) = E[x_1 | x_t = x], a local model takes x_1 | x_t = x ~ N(m(x), K). The noising reversed is, with
e ~ N(0, C_0),

    x' = t' x_1 + rho (x - t x_1) + tau e = c x_1 + rho x + tau e,    c = t' - rho t,                              (1)
    rho = (t / t') (1 - t')^2 / (1 - t)^2,    tau^2 = (1 - t')^2 (1 - (t (1 - t') / (t' (1 - t)))^2),

and the transition given data y = A x_1 + N(0, R) draws x_1 from the local model's posterior N(m_y, K_y):

    q(x' | x, y) = N(t' m_y + rho (x - t m_y),  c^2 K_y + tau^2 C_0).                                              (2)

Under the local model x_1 | x', x ~ N(m_l, K_l), so that with psi(x) = N(y; A m(x), A K A^T + R) the step has the weight

    w = psi'(x') / N(y; A m_l, A K_l A^T + R),    K_l^-1 = K^-1 + (c / tau)^2 C_0^-1,                              (3)
    m_l = m + (c / tau^2) K_l C_0^-1 d,           d = x' - t' m - rho (x - t m).

The first factor is psi_0, and the step to t' = 1 draws x_1 itself, with weight 1. Any model leaves the draws right as
steps and particles grow. Here K = K_t is the conditional covariance of the Gaussian with the prior's covariance C, the
same for all particles. Then K_l = K_t', since the chain x_1 -> x' -> x is Markov; with Q' = A K_t' A^T + R,

    log w = (A m(x') - A m_l)^T Q'^-1 (y - A m(x') + y - A m_l) / 2:                                               (4)

no determinant is left, and for a Gaussian prior m(x') = m_l, so that every weight is 1. (A K of each particle's own,
from the flow's Jacobian, was tried: with 22 sharp data of a mixture its effective share was 0.002, that of K_t 0.24.)
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from infield.posterior.inference.linear_gaussian import LinearGaussianData
from infield.priors.base import FlowPrior, denoise
from infield.priors.covariance.base import Covariance
from infield.priors.gaussian.bridge import Bridge


@dataclass(frozen=True)
class Reversal:
    """Coefficients of the noising reversed from t to t', equation (1).

    Arguments:
        t, t_next: 0 <= t < t' <= 1.
    """

    t: float
    t_next: float

    @property
    def rho(self) -> float:
        return self.t / self.t_next * ((1 - self.t_next) / (1 - self.t)) ** 2

    @property
    def tau(self) -> float:
        ratio = self.t * (1 - self.t_next) / (self.t_next * (1 - self.t))
        return (1 - self.t_next) * math.sqrt(1 - ratio**2)

    @property
    def c(self) -> float:
        return self.t_next - self.rho * self.t

    def move(self, x: Tensor, x_1: Tensor, e: Tensor) -> Tensor:
        """x', equation (1), for e ~ N(0, C_0); shape `(batch, channel, *space)`."""
        return self.c * x_1 + self.rho * x + self.tau * e

    def shift(self, x: Tensor, m: Tensor, x_next: Tensor) -> Tensor:
        """d, the estimate of x_1 - m from x', equation (3); shape `(batch, channel, *space)`."""
        return x_next - self.t_next * m - self.rho * (x - self.t * m)

    def update(self, d: Tensor, K_next: Covariance, source: Covariance) -> Tensor:
        """(c / tau^2) K_t' C_0^-1 d, shape `(batch, channel, *space)`."""
        z = source.modes.analyse(d)
        z = torch.where(source.diagonal > 0, z / source.diagonal, 0.0)  # modes without noise in the source stay
        return (self.c / self.tau**2) * source.modes.synthesise(K_next.apply_to_modes(z))


def conditional(prior: FlowPrior, t: float) -> Covariance:
    """K_t, for 0 <= t < 1."""
    return Bridge(prior.covariance, prior.source, t).conditional() if t > 0 else prior.covariance


@dataclass(frozen=True)
class ConditionedTransition:
    """The transition with K_t, for any number of data; equations (2) and (4).

    Arguments:
        prior: Any prior.
        data: Linear data with Gaussian noise, in the modes of the prior's covariance.
    """

    prior: FlowPrior
    data: LinearGaussianData

    def mean(self, x: Tensor, t: float) -> Tensor:
        """m(x) for 0 <= t < 1, shape `(batch, channel, *space)`."""
        return self.prior.mean.expand(x.shape) if t == 0 else denoise(self.prior, x, t)

    def log_evidence(self) -> float | None:
        """log psi_0; None where the data are too many for its determinant."""
        C = self.prior.covariance
        known = self.data.dense or self.data.by_sensors(C)
        return float(self.data.log_evidence(self.prior.mean, C)) if known else None

    def log_weight(
        self, step: Reversal, K_next: Covariance, x: Tensor, m: Tensor, x_next: Tensor, m_next: Tensor
    ) -> Tensor:
        """log w, equation (4), of particles that went from x to x', shape `(batch,)`.

        Arguments:
            step: From t to t'.
            K_next: K_t'.
            x, m: Where they were, and m(x).
            x_next, m_next: Where they are, and m(x').
        """
        m_l = m + step.update(step.shift(x, m, x_next), K_next, self.prior.source)
        r_l, r_next = self.data.misfit(m_l), self.data.misfit(m_next)
        z = self.data.solve(r_l + r_next, K_next)
        return 0.5 * ((r_l - r_next) * z).flatten(1).sum(1)  # (4)
