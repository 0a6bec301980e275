r"""Metric Gaussian variational inference: a Gaussian posterior for counts, links and other curved data, in seconds.

Knollmueller & Ensslin 2019, "Metric Gaussian variational inference" (arXiv 1901.11033). The posterior of a Gaussian
field under any likelihood is approximated by N(u_bar, Xi) whose covariance follows the mean,

    Xi = (K^{-1} + J^T W J)^{-1},    J, W at u_bar,

W the Fisher information of the data (ibid., eq. 21), and whose mean minimises the Kullback-Leibler divergence from
the posterior, estimated from draws r_i of N(0, Xi) and their mirror images (ibid., eq. 43): with u = u_bar + r_i,

    KL(u_bar) = - mean_i log p(y | u) + (u_bar - m)^T K^{-1} (u_bar - m) / 2 + const.

Both alternate. With no r_i the mean is the most probable field, and the whole is Laplace's method. A draw r solves one
linear system (perturb and solve): with zeta ~ N(0, K) and white eta, r = zeta - K J^T D (1 + B)^{-1} (D J zeta + eta),
in the notation of `posterior.inference.laplace_evidence`. The r_i of the mean have a seed of their own: sample i
depends on no other.

| paper | here |
| --- | --- |
| xi, standard | u, N(m, K) |
| M, Fisher metric | J^T W J |
| xi_bar, Xi | `u_bar`, Xi |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from infield.core.errors import InfieldError
from infield.core.randomness import Randomness, normal
from infield.physics.measurement import Measurement
from infield.physics.operators.refusal import ForwardModelError
from infield.posterior.inference.laplace_evidence import LocalData, Product, laplace_evidence
from infield.posterior.inference.likelihood import value_and_gradient
from infield.posterior.samplers.accepts import GAUSSIAN, Accepts
from infield.posterior.samplers.base import Draws, Sampler
from infield.priors.base import FlowPrior

MAX_STEPS, MAX_HALVINGS, GAIN_TOL = 20, 20, 1e-2
"""Newton steps for one set of r_i, halvings of one, and the gain of the divergence to come below which they end."""


@dataclass(frozen=True, kw_only=True)
class MGVI(Sampler):
    """MGVI under a Gaussian prior, for any operator with a derivative and noise of independent data.

    Arguments:
        iterations: Times that the r_i are drawn anew; 0 is Laplace's method.
        pairs: Draws r_i, each with its mirror image.
    """

    iterations: int = 3
    pairs: int = 8

    method: ClassVar[str] = "mgvi"
    accepts: ClassVar[Accepts] = GAUSSIAN
    caveat: ClassVar[str | None] = (
        "samples of a Gaussian approximation of the posterior (MGVI); faps or source-slice sample the posterior itself"
    )

    def __post_init__(self) -> None:
        if self.iterations < 0 or self.pairs < 1:
            raise InfieldError(
                where="sampler mgvi",
                found=f"iterations={self.iterations}, pairs={self.pairs}",
                expected="at least 0 and at least 1",
            )

    @property
    def block(self) -> int:
        """Many: the mean is searched once a block."""
        return 32

    def draw(self, prior: FlowPrior, measurement: Measurement, n: int, generator: Randomness) -> Draws:
        K, m = prior.covariance, prior.mean[None]
        found = laplace_evidence(measurement, m, K.apply)
        a, local = found.dual, LocalData.at(measurement, found.at, K.apply)
        own = Generator().manual_seed(0)
        for _ in range(self.iterations):
            r = self._offsets(prior, local, self.pairs, own)
            a = _least_divergence(measurement, m, K.apply, a, torch.cat([r, -r]))
            local = LocalData.at(measurement, m + K.apply(a), K.apply)  # Xi follows the mean
        return Draws(local.u + self._offsets(prior, local, n, generator))

    def _offsets(self, prior: FlowPrior, local: LocalData, n: int, generator: Randomness) -> Tensor:
        """Draws of N(0, Xi), shape `(n, channel, *space)`."""
        K, device = prior.covariance, local.u.device
        white = normal(generator, n, K.event_shape, device)
        zeta = K.colour(white, normal(generator, n, K.event_shape, device) if K.rank else None)
        eta = normal(generator, n, (len(local.index),), device)
        parts = []
        for zeta_part, eta_part in zip(zeta.split(16), eta.split(16), strict=True):
            v = local.solve(local.push(zeta_part) + eta_part)
            parts.append(zeta_part - K.apply(local.pull(v)))
        return torch.cat(parts)


def _least_divergence(measurement: Measurement, m: Tensor, product: Product, a: Tensor, r: Tensor) -> Tensor:
    """a with u_bar = m + K a, by Newton's steps with the metric at u_bar and a line search."""

    def divergence(a: Tensor, Ka: Tensor) -> float:
        try:
            value = 0.5 * float((a * Ka).sum()) - float(measurement.log_likelihood(m + Ka + r).mean())
        except ForwardModelError:  # a step too far, to a field for which there is no solution
            return torch.inf
        return value if value == value else torch.inf

    Ka = product(a)
    least = divergence(a, Ka)
    for _ in range(MAX_STEPS):
        _, gradients = value_and_gradient(measurement, m + Ka + r)
        b = gradients.mean(0, keepdim=True) - a
        local = LocalData.at(measurement, m + Ka, product)
        step = b - local.pull(local.solve(local.push(product(b))))  # K^{-1} Xi b
        K_step = product(step)
        for halving in range(MAX_HALVINGS):
            eta = 0.5**halving
            reached = divergence(a + eta * step, Ka + eta * K_step)
            if reached < least:
                break
        else:
            return a
        gain, least = least - reached, reached
        a, Ka = a + eta * step, Ka + eta * K_step
        if gain < GAIN_TOL:
            return a
    return a
