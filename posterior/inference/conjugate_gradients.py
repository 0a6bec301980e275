"""Preconditioned conjugate gradients for a batch of systems, each stopping on its own."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from infield.core.errors import InfieldError

SOLVED = 1e-9
"""Residual, as a share of the right-hand side, below which `conjugate_gradient_steps` takes no more of them."""

DELAY, SHARE = 5, 0.1
"""Iterations whose decrease of the error estimates what is left of it, and its share of the tolerance at the end."""


class NotConverged(InfieldError):
    """Conjugate gradients that did not reach their tolerance."""


def conjugate_gradients(
    operator: Callable[[Tensor], Tensor],
    right: Tensor,
    tolerance: float,
    max_iterations: int,
    *,
    diagonal: Tensor,
    preconditioner: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Solve M w = b for a symmetric positive definite M (Hestenes & Stiefel 1952; Saad 2003, algorithm 9.1).

    A converged system is left alone while others iterate, so that its solution is independent of the batch.

    Arguments:
        operator: w -> M w on a batch, shape `(batch, unknowns)`.
        right: b, shape `(batch, unknowns)`.
        tolerance: Stop where the root mean square of b - M w is at most this. Where M >= 1, as for the posterior of
            unit-variance unknowns (M is its precision), this bounds the error of w in posterior standard deviations,
            root mean square: |M^{1/2} (w - M^{-1} b)| = |M^{-1/2} (b - M w)| <= |b - M w|.
        max_iterations: Give up after so many products with M.
        diagonal: Preconditioner, an approximation of the diagonal of M, positive, shape `(unknowns,)` or `(batch,
            unknowns)`.
        preconditioner: A symmetric positive definite map that approximates M^{-1}, in place of the diagonal's inverse.
            With one, a system also counts as converged where the error itself is estimated to be at most a tenth of
            the tolerance: |M^{1/2} (w_k - M^{-1} b)|^2 is the sum of alpha_j rho_j over all iterations from k on, and
            nearly the sum of the next few (Hestenes & Stiefel 1952, theorem 6:1; Strakos & Tichy 2002, ETNA 13, 56).
            The bound by the residual is far too large where M is.

    Raises:
        NotConverged: If a system has not converged by then.
        InfieldError: The right-hand side is not finite.
    """
    if not torch.isfinite(right).all():
        raise InfieldError(
            where="conjugate gradients", found="NaN or infinity on the right-hand side: the field diverged"
        )

    def preconditioned(r: Tensor) -> Tensor:
        return r / diagonal if preconditioner is None else preconditioner(r)

    w, r = torch.zeros_like(right), right.clone()
    z = preconditioned(r)
    p, rho = z.clone(), (r * z).sum(1, keepdim=True)
    goal = tolerance * right.shape[1] ** 0.5
    going, decreases = torch.ones_like(rho, dtype=torch.bool), []
    for _ in range(max_iterations):
        active = going & (r.norm(dim=1, keepdim=True) > goal)
        if not active.any():
            return w
        Mp = operator(p)
        alpha = torch.where(active, rho / (p * Mp).sum(1, keepdim=True), 0.0)
        w = w + alpha * p
        r = r - alpha * Mp
        decreases.append(alpha * rho)
        if preconditioner is not None and len(decreases) >= DELAY:
            going = going & (torch.stack(decreases[-DELAY:]).sum(0).sqrt() > SHARE * goal)
        z = preconditioned(r)
        rho_next = (r * z).sum(1, keepdim=True)
        p = torch.where(active, z + rho_next / rho * p, p)
        rho = torch.where(active, rho_next, rho)
    worst = float(r.norm(dim=1).max()) / right.shape[1] ** 0.5
    raise NotConverged(
        where="conjugate gradients",
        found=f"residual {worst:.1e} after {max_iterations} iterations",
        expected=f"{tolerance:.0e}",
        remedy="the noise level may be far too small for these data, or the operator's adjoint wrong",
    )


def conjugate_gradient_steps(operator: Callable[[Tensor], Tensor], right: Tensor, start: Tensor, steps: int) -> Tensor:
    """Some steps towards the solution of M x = b from a start; few of them leave most of the start where M is small.

    Arguments:
        operator: x -> M x on a batch, M symmetric positive semidefinite; shape `(batch, *unknowns)`.
        right: b, that shape.
        start: x before the first step, that shape.
        steps: Products with M after the first; a system that is solved, to 1e-9 of b, stays as it is.

    Returns:
        x, that shape.
    """

    def dot(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).flatten(1).sum(1).reshape(-1, *[1] * (a.ndim - 1))

    Mx = operator(start)
    x, r = start, right - Mx
    p, rho = r, dot(r, r)
    solved = SOLVED**2 * torch.maximum(dot(right, right), dot(Mx, Mx))
    for _ in range(steps):
        going = rho > solved  # what is left is rounding, in directions where M may be 0
        if not going.any():
            break
        Mp = operator(p)
        alpha = torch.where(going, rho / dot(p, Mp), 0.0)
        x, r = x + alpha * p, r - alpha * Mp
        rho_next = dot(r, r)
        p = torch.where(going, r + rho_next / rho * p, p)
        rho = torch.where(going, rho_next, rho)
    return x
