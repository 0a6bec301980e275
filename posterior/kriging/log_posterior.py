"""The log posterior density of hyperparameters given data of all channels, its maximum and its curvature."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import minimize
from torch import Tensor

from infield.posterior.kriging.dense import Dense
from infield.posterior.kriging.family import Family
from infield.posterior.kriging.observations import Coefficients
from infield.posterior.kriging.vecchia import Vecchia

GAIN = 0.01
"""Log evidence by which the last step of a search may still gain."""

LEAST_CURVATURE = 0.2
"""About 1 / (largest variance of a hyperprior)."""


@dataclass(frozen=True)
class LogPosterior:
    """log p(y | theta) + log p(theta)."""

    family: Family
    parts: list[Dense | Vecchia]

    def log_evidence(self, theta: Tensor) -> float:
        fixed = self.family.kernel
        return sum(float(p.whitened(lambda x: fixed(theta, x)).log_evidence(p.prior_variance)) for p in self.parts)

    def value(self, theta: Tensor) -> float:
        try:
            return self.log_evidence(theta) + float(self.family.log_prior(theta))
        except torch.linalg.LinAlgError:
            return -math.inf

    def penalised(self, theta: Tensor, count: int) -> float:
        return self.value(theta) - 0.5 * len(theta) * math.log(count)

    def coefficients(self, theta: Tensor) -> list[Coefficients]:
        return [p.whitened(lambda x: self.family.kernel(theta, x)).coefficients(p.prior_variance) for p in self.parts]

    def gradient(self, theta: Tensor) -> tuple[float, Tensor]:
        leaf = theta.detach().requires_grad_()
        with torch.enable_grad():
            prior = self.family.log_prior(leaf)
            (total,) = torch.autograd.grad(prior, leaf)
        value = float(prior.detach())
        for part in self.parts:
            own, of_theta = part.value_and_gradient(self.family.kernel, theta)
            value, total = value + own, total + of_theta
        return value, total

    def maximum(self, start: Tensor, H: Tensor | None = None, gain: float = GAIN) -> Tensor:
        """By L-BFGS until a step gains less than `gain`, in coordinates in which H, minus the curvature, is one."""
        root = torch.linalg.cholesky(torch.eye(len(start), dtype=start.dtype) if H is None else H)

        def moved(u: np.ndarray) -> Tensor:
            return start + torch.linalg.solve_triangular(root.mT, torch.from_numpy(u)[:, None], upper=True)[:, 0]

        def negative(u: np.ndarray) -> tuple[float, np.ndarray]:
            try:
                value, gradient = self.gradient(moved(u))
            except torch.linalg.LinAlgError:
                return 1e300, np.zeros_like(u)
            return -value, -torch.linalg.solve_triangular(root, gradient[:, None], upper=False)[:, 0].numpy()

        size = max(abs(self.value(start)), 1.0)
        options = {"ftol": gain / size, "gtol": 1e-3, "maxiter": 40}
        found = minimize(negative, np.zeros(len(start)), jac=True, method="L-BFGS-B", options=options)
        return moved(found.x)

    def curvature(self, theta: Tensor, step: float = 0.02) -> Tensor:
        """Minus the second derivatives, by central differences of the gradient, symmetric."""
        rows = []
        for i in range(len(theta)):
            shift = torch.zeros_like(theta)
            shift[i] = step
            rows.append((self.gradient(theta - shift)[1] - self.gradient(theta + shift)[1]) / (2 * step))
        H = torch.stack(rows)
        return (H + H.mT) / 2


def definite(H: Tensor) -> Tensor:
    """Its eigenvalues no smaller than the hyperpriors would have them."""
    values, vectors = torch.linalg.eigh(H)
    return (vectors * values.clamp_min(LEAST_CURVATURE)) @ vectors.mT
