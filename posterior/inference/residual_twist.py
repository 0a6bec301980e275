r"""Twists of sequential Monte Carlo for laws that are a sum of squared residuals of few fields' values.

    log p(x) = -|rho(x)|^2 / 2,   psi_t(x) = exp(-rho^T Q^-1 rho / 2),   Q = J V J^T + 1,

rho and its Jacobian J at m = E[x_1 | x_t = x], V = Cov(x_1 | x_t = x). There is no determinant: rho has kinks where a
residual sets in (the distance from a set), and psi is continuous there. The gradient takes J and V for constant; what
it lacks is in the weights, and the last twist is the law itself. V is a matrix: for few values.
"""

from __future__ import annotations

import torch
from torch import Tensor

from infield.core.errors import InfieldError
from infield.physics.measurement import Measurement
from infield.posterior.inference.conditional_moments import ConditionalMoments
from infield.posterior.inference.twist import TwistValue
from infield.priors.base import FlowPrior

MAX_VALUES = 192
"""Values of a field up to which its covariance is held as a matrix for each particle."""


class ResidualTwist:
    """The twist of a law with `residual_rows`.

    Arguments:
        prior: Any prior.
        measurement: Its noise model has `residual_rows`, residuals of each pixel with derivatives in its channels.

    Raises:
        InfieldError: The field has too many values.
    """

    def __init__(self, prior: FlowPrior, measurement: Measurement) -> None:
        self.prior, self.measurement = prior, measurement
        self.shape = prior.source.event_shape
        values = int(torch.Size(self.shape).numel())
        if values > MAX_VALUES:
            raise InfieldError(
                where="sampler smc",
                found=f"a field of {values} values under a law of residuals",
                expected=f"at most {MAX_VALUES}",
                remedy="use {sampler}",
                parameters={"sampler": "faps"},
            )
        eye = torch.eye(values, dtype=prior.mean.dtype)
        self.law = ConditionalMoments(prior, eye.reshape(values, *self.shape))

    @property
    def jacobian_products(self) -> int:
        return self.law.jacobian_products

    def residuals(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """rho, shape `(batch, residuals)`, and J, shape `(batch, residuals, values)`."""
        measurement = self.measurement
        z = measurement.operator.A(x)
        rho, rows = measurement.noise.residual_rows(z, measurement.observed)  # type: ignore[attr-defined]
        batch, k, channels = rows.shape
        spread = rows.new_zeros((batch, k, channels, k))
        spread[:, range(k), :, range(k)] = rows.transpose(0, 1)
        cotangents = spread.reshape(batch * k, *z.shape[1:])
        J = measurement.operator.A_vjp(x.repeat_interleave(k, 0), cotangents)
        return rho, J.reshape(batch, k, -1)

    def log_likelihood(self, x: Tensor) -> Tensor:
        z = self.measurement.operator.A(x)
        return self.measurement.noise.log_prob(self.measurement.y, z, self.measurement.observed)

    def whitened(self, x: Tensor) -> Tensor:
        """C_0^{-1/2} x in the modes' coordinates."""
        return self.prior.source.modes.analyse(x) / self.prior.source.diagonal.sqrt()

    def at(self, x: Tensor, t: float, before: TwistValue | None = None) -> TwistValue:
        m, V = self.law.at(x, t)
        V = V.flatten(2)
        rho, J = self.residuals(m)
        VJ = torch.einsum("bij,bkj->bki", V, J)
        Q = torch.einsum("bki,bli->bkl", VJ, J)
        eigenvalues, axes = torch.linalg.eigh((Q + Q.mT) / 2)
        spread = 1 + eigenvalues.clamp_min(0)
        r = torch.einsum("bkl,bk->bl", axes, rho)
        log_psi = -0.5 * (r.square() / spread).sum(1)
        z = torch.einsum("bkl,bl->bk", axes, r / spread)
        guide = -torch.einsum("bk,bki->bi", z, VJ).reshape(x.shape) * t / (1 - t) ** 2
        return TwistValue(m, self.whitened(guide), log_psi)
