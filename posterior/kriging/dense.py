r"""Evidence of a stationary law, exact: one dense covariance of all data, for a few hundred of them.

With K = L L^T the covariance of the data, noise included, u = L^{-1} y and U = L^{-1} F, the sums are those of
`vecchia`. Coefficients of the trend integrated out under N(0, B), changes of K change log p by sum C dK with

    2 C = a a^T - K^{-1} + K^{-1} F S F^T K^{-1},    a = K^{-1} (y - F beta),

beta and S the mean and covariance of the coefficients given the data (Rasmussen & Williams 2006, eqs. 2.45 and 5.9).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from infield.posterior.kriging.law import JITTER, matern_slope, matern_unit
from infield.posterior.kriging.observations import Observations, noise_variances
from infield.posterior.kriging.vecchia import Kernel, Whitened, chained, with_derivatives


@dataclass(frozen=True)
class Dense:
    """The evidence of data in any order.

    Arguments:
        data: Observations.
        prior_variance: Diagonal of B, shape `(trend functions,)`.
        nu: Order of the law.
    """

    data: Observations
    prior_variance: Tensor
    nu: float

    def __len__(self) -> int:
        return len(self.data)

    def whitened(self, kernel: Kernel) -> Whitened:
        """The sums, without gradients."""
        with torch.no_grad():
            z, variance, factor = kernel(self.data.x)
            _, L = self._root(z, variance, factor)
            return self._sums(L)[0]

    def value_and_gradient(
        self, kernel: Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]], theta: Tensor
    ) -> tuple[float, Tensor]:
        """log p(y) and its derivatives with respect to theta; `kernel(theta, positions)` as `Kernel`."""
        leaf, values, fixed = with_derivatives(kernel, theta, self.data.x)
        distance, L = self._root(*fixed)
        sums, u = self._sums(L)
        posterior = sums.coefficients(self.prior_variance)
        half = torch.linalg.solve_triangular(L.mT, u, upper=True)
        a = half[:, 0] - half[:, 1:] @ posterior.mean
        C = a[:, None] * a - torch.cholesky_inverse(L) + half[:, 1:] @ posterior.covariance @ half[:, 1:].mT
        C = C / 2
        own = C.diagonal()
        of_factor = own @ self.data.noise
        of_variance = (C * matern_unit(distance, self.nu)).sum() + JITTER * own.sum()
        H = fixed[1] * C * matern_slope(distance, self.nu)
        of_z = 4 * (H.sum(1)[:, None] * fixed[0] - H @ fixed[0])
        gradient = chained(leaf, values, (of_z, of_variance, of_factor))
        return float(sums.log_evidence(self.prior_variance)), gradient

    def _root(self, z: Tensor, variance: Tensor, factor: Tensor) -> tuple[Tensor, Tensor]:
        """Distances, and L."""
        distance = torch.cdist(z, z, compute_mode="donot_use_mm_for_euclid_dist")
        K = variance * matern_unit(distance, self.nu)
        K.diagonal().add_(noise_variances(self.data.noise, factor) + JITTER * variance)
        return distance, torch.linalg.cholesky(K)

    def _sums(self, L: Tensor) -> tuple[Whitened, Tensor]:
        right = torch.cat([self.data.y[:, None], self.data.design], 1)
        u = torch.linalg.solve_triangular(L, right, upper=False)
        y, F = u[:, 0], u[:, 1:]
        return Whitened(y @ y, F.mT @ y, F.mT @ F, 2 * L.diagonal().log().sum(), len(y)), u
