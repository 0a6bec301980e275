"""Conjugate gradients for a batch of systems, each stopping on its own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from infield import InfieldError


def conjugate_gradients(
    operator: Callable[[Tensor], Tensor], right: Tensor, tolerance: float, max_iterations: int
) -> Tensor:
    """Solve M w = b for a symmetric positive definite M (Hestenes & Stiefel 1952).

    A system that has converged is left alone while others go on, so that its solution does not depend on its company.

    Arguments:
        operator: w -> M w on a batch, shape `(batch, unknowns)`.
        right: b, shape `(batch, unknowns)`.
        tolerance: Stop at |b - M w| <= tolerance |b|.
        max_iterations: Give up after so many products with M.

    Raises:
        InfieldError: If a system has not converged by then.
    """
    w, r = torch.zeros_like(right), right.clone()
    p, rho = r.clone(), r.square().sum(1, keepdim=True)
    goal = tolerance**2 * rho
    for _ in range(max_iterations):
        active = rho > goal
        if not active.any():
            return w
        Mp = operator(p)
        alpha = torch.where(active, rho / (p * Mp).sum(1, keepdim=True), 0.0)
        w = w + alpha * p
        r = r - alpha * Mp
        rho_next = torch.where(active, r.square().sum(1, keepdim=True), rho)
        p = torch.where(active, r + rho_next / rho * p, p)
        rho = rho_next
    worst = float((rho / goal.clamp_min(1e-300)).max().sqrt() * tolerance)
    raise InfieldError(
        f"conjugate gradients: relative residual {worst:.1e} after {max_iterations} iterations, expected {tolerance:.0e}; "
        "the noise level may be far too small for these data, or the operator's adjoint wrong"
    )
