r"""Compensation on the projectors' own pixels, through defocus, warp and indirect light.

    min over 0 <= s <= 1 of (1/2) sum_x |m(T (A s + background)) - m(T target)|^2,

m the identity, the sRGB code or Lab, by accelerated projected gradients (Beck & Teboulle 2009) with adaptive restarts
(O'Donoghue & Candes 2015). The steps are scaled by a diagonal that majorises the Hessian, D = |A|^T |M|^T |M| |A| 1,
M = m' T: for a matrix H with |H| 1 = D, diag(D) - H is positive semidefinite.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from infield.physics.projection_mapping.choices import Error
from infield.physics.projection_mapping.colour import encode, encode_slope, lab, lab_jacobian
from infield.physics.projection_mapping.multi_projector import MultiProjector

DARK = 0.003
"""Light below which the slope of the code is no longer raised in the diagonal, against steps that shrink to nothing."""


def solve_jointly(
    operator: MultiProjector,
    background: Tensor,
    target: Tensor,
    covered: Tensor,
    start: Tensor,
    *,
    error: Error = "coded",
    to_srgb: Tensor | None = None,
    iterations: int = 60,
    callback: Callable[[int, float], None] | None = None,
) -> Tensor:
    """Emitted light that shows a target.

    Arguments:
        operator: A.
        background, target: Camera light, shape `(3, y, x)`.
        covered: Pixels that count, shape `(y, x)`, bool.
        start: Emitted light to begin with, shape `(3, projector, v, u)`.
        error: What is minimised.
        to_srgb: Camera channels to linear sRGB; the identity by default.
        iterations: Applications of A and its adjoint, each.
        callback: Receives number and error of each iteration.

    Returns:
        Shape of `start`.
    """
    kind = operator.mixing.dtype
    background, target = background.to(kind)[None], target.to(kind)[None]
    mask = covered.to(kind)[None, None]
    colour = torch.eye(3, dtype=kind) if to_srgb is None else to_srgb.to(kind)
    wanted = torch.einsum("ij,bj...->bi...", colour, target)
    goal = _measured(wanted, error)

    def value_and_gradient(s: Tensor) -> tuple[float, Tensor]:
        light = torch.einsum("ij,bj...->bi...", colour, operator.A(s) + background)
        residual = (_measured(light, error) - goal) * mask
        back = torch.einsum("ij,bi...->bj...", colour, _transposed(light, residual, error))
        return 0.5 * float((residual.double() ** 2).sum()), operator.A_adjoint(back)

    with torch.no_grad():
        x = start.to(kind)[None].clamp(0, 1)
        step = 1 / majorant(operator, operator.A(x) + background, target, mask, colour, error)
        y, t, last = x, 1.0, float("inf")
        for k in range(iterations):
            value, gradient = value_and_gradient(y)
            if callback is not None:
                callback(k, value)
            if value > 1.5 * last:  # the diagonal did not majorise this far from the start
                step, y, t = 0.5 * step, x, 1.0
                value, gradient = value_and_gradient(y)
            last = value
            new = torch.sub(y, gradient.mul_(step), out=gradient).clamp_(0, 1)  # in place for memory
            if _rise(y, new, x, step) > 0:
                t = 1.0  # momentum points uphill
            next_t = 0.5 * (1 + (1 + 4 * t * t) ** 0.5)
            y = torch.sub(new, x).mul_((t - 1) / next_t).add_(new).clamp_(0, 1)
            x, t = new, next_t
    return x[0]


def majorant(
    operator: MultiProjector, light: Tensor, target: Tensor, mask: Tensor, colour: Tensor, error: Error
) -> Tensor:
    """D, shape of the field; infinite where no camera pixel sees a projector's pixel."""
    positive, ones = operator.absolute(), torch.ones((1, 3, *operator.grid.shape), dtype=light.dtype)
    reached = positive.A(ones)
    gram: Tensor | None = None
    for at in (light, target):
        rgb = torch.einsum("ij,bj...->bi...", colour, at)
        matrix = torch.einsum("bij...,jk->bik...", _jacobian(rgb, error), colour).abs()
        part = torch.einsum("bik...,bi...->bk...", matrix, torch.einsum("bik...,bk...->bi...", matrix, reached))
        gram = part if gram is None else torch.maximum(gram, part)
    assert gram is not None
    D = positive.A_adjoint(gram * mask)
    return torch.where(D > 1e-6 * D.max(), D, torch.inf)


def _rise(y: Tensor, new: Tensor, x: Tensor, step: Tensor) -> float:
    """sum (y - new) / step (new - x), projector by projector for memory."""
    parts = zip(*(a.unbind(2) for a in (y, new, x, step)), strict=True)
    return sum(float(((b - n) / h * (n - o)).nan_to_num(0.0, 0.0, 0.0).sum()) for b, n, o, h in parts)


def _measured(light: Tensor, error: Error) -> Tensor:
    return encode(light) if error == "coded" else lab(light) if error == "lab" else light


def _transposed(light: Tensor, residual: Tensor, error: Error) -> Tensor:
    if error == "lab":
        return torch.einsum("bij...,bi...->bj...", lab_jacobian(light), residual)
    return encode_slope(light) * residual if error == "coded" else residual


def _jacobian(light: Tensor, error: Error) -> Tensor:
    if error == "lab":
        return lab_jacobian(light.clamp(min=DARK))
    slope = encode_slope(light.clamp(min=DARK)) if error == "coded" else torch.ones_like(light)
    return torch.diag_embed(slope.movedim(1, -1)).movedim((-2, -1), (1, 2))
