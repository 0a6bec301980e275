r"""Twists of sequential Monte Carlo: guesses, from x_t alone, of the evidence of all linear data.

    psi_t(x) = N(y; A m(x), A V(x) A^T + R),    m = E[x_1 | x_t = x],    V = Cov(x_1 | x_t = x).

Data are whitened first, A <- R^{-1/2} A, y <- R^{-1/2} y, so that the covariance reads A V A^T + 1. The gradient takes
V for constant: it only guides, and what it lacks is in the weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from infield.posterior.inference.conditional_moments import ConditionalMoments
from infield.posterior.inference.linear_gaussian import LinearGaussianData
from infield.priors.base import FlowPrior, denoise
from infield.priors.gaussian.bridge import Bridge


@dataclass(frozen=True)
class TwistValue:
    """A twist evaluated at particles x.

    Arguments:
        mean: m(x), shape `(batch, channel, *space)`.
        guide: C_0^{1/2} grad log psi(x) in the coordinates of the source's modes, same shape.
        log_psi: log psi(x), shape `(batch,)`.
        VA: V(x) A^T where it was computed, shape `(batch, data, channel, *space)`.
        size: What the Gaussian surrogate's V was in the data then, the trace of A V A^T.
    """

    mean: Tensor
    guide: Tensor
    log_psi: Tensor
    VA: Tensor | None = None
    size: float = 1.0

    def __getitem__(self, index: Tensor) -> TwistValue:
        VA = None if self.VA is None else self.VA[index]
        return TwistValue(self.mean[index], self.guide[index], self.log_psi[index], VA, self.size)


class LocalTwist:
    """The twist with V from the flow's Jacobian, or in closed form where the prior has it: one product a particle and
    datum. The V of a guess from before is scaled as that of the Gaussian surrogate has changed since.

    Arguments:
        prior: Any prior.
        data: Linear data with Gaussian noise, few enough for matrices.
    """

    def __init__(self, prior: FlowPrior, data: LinearGaussianData) -> None:
        self.prior, self.data = prior, data
        L = torch.linalg.cholesky(data.noise_matrix)
        self.rows = torch.linalg.solve_triangular(L, data.operator_matrix, upper=False)  # in the modes' coordinates
        y = data.measurement.y.flatten()[data.index]
        self.y = torch.linalg.solve_triangular(L, y[:, None], upper=False)[:, 0]
        self.law = ConditionalMoments(prior, self.fields)
        self.constant = -float(L.diagonal().log().sum()) - 0.5 * len(y) * math.log(2 * math.pi)

    def residual(self, x: Tensor) -> Tensor:
        return self.y - self.data.modes.analyse(x).flatten(1) @ self.rows.mT

    def log_likelihood(self, x: Tensor) -> Tensor:
        return self.constant - 0.5 * self.residual(x).square().sum(1)

    @cached_property
    def fields(self) -> Tensor:
        """A^T e_j, shape `(data, channel, *space)`."""
        shape = self.prior.source.event_shape
        return self.data.modes.synthesise(self.rows.reshape(-1, *shape))

    def whitened(self, x: Tensor) -> Tensor:
        """C_0^{-1/2} x in the modes' coordinates."""
        return self.prior.source.modes.analyse(x) / self.prior.source.diagonal.sqrt()

    @property
    def jacobian_products(self) -> int:
        return self.law.jacobian_products

    def at(self, x: Tensor, t: float, before: TwistValue | None = None) -> TwistValue:
        K = Bridge(self.prior.covariance, self.prior.source, t).conditional()
        size = float((self.rows * K.apply_to_modes(self.rows.reshape(-1, *K.event_shape)).flatten(1)).sum())
        if before is None or before.VA is None:
            m, VA = self.law.at(x, t)
        else:
            m, VA = denoise(self.prior, x, t), before.VA * (size / before.size)
        AVA = VA.flatten(2) @ self.fields.flatten(1).mT
        eigenvalues, Q = torch.linalg.eigh((AVA + AVA.mT) / 2)
        spread = 1 + eigenvalues.clamp_min(0)  # the Jacobian of a network need not be positive
        r = torch.einsum("nij,ni->nj", Q, self.residual(m))
        log_psi = self.constant - 0.5 * (r.square() / spread + spread.log()).sum(1)
        z = torch.einsum("nij,nj->ni", Q, r / spread)  # (A V A^T + 1)^-1 (y - A m)
        guide = torch.einsum("nj,nj...->n...", z, VA) * t / (1 - t) ** 2  # C_0 (dm/dx)^T A^T z
        return TwistValue(m, self.whitened(guide), log_psi, VA, size)
