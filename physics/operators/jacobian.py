"""Products with the Jacobian of any operator: J v beside deepinv's J^T v (`A_vjp`)."""

from __future__ import annotations

from torch import Tensor

from infield.core._deepinv import LinearPhysics, Physics

DIFFERENCE = 1e-5
"""Half the length of a central difference, as a share of the field's own largest value (or of 1)."""


def jacobian_is_exact(operator: Physics) -> bool:
    """Whether `jacobian_product` is exact to rounding, not a difference; of a composition, of every part of it."""
    if isinstance(operator, LinearPhysics):
        return True
    parts = getattr(operator, "operators", None)
    if parts is not None:
        return all(jacobian_is_exact(part) for part in parts)
    return hasattr(operator, "A_jvp")


def jacobian_product(operator: Physics, x: Tensor, v: Tensor) -> Tensor:
    """J(x) v: A v of a linear operator, `A_jvp` where the operator has it, else a central difference along v.

    Arguments:
        operator: Any operator.
        x: One field, shape `(1, channel, *space)`, or one for each v.
        v: Shape `(batch, channel, *space)`.

    Returns:
        Shape `(batch, *data)`.
    """
    if isinstance(operator, LinearPhysics):
        return operator.A(v)
    if hasattr(operator, "A_jvp"):
        return operator.A_jvp(x, v)
    sizes = v.flatten(1).abs().amax(1).clamp_min(1e-300).reshape(-1, *[1] * (v.ndim - 1))
    step = DIFFERENCE * x.abs().max().clamp_min(1.0) / sizes
    return (operator.A(x + step * v) - operator.A(x - step * v)) / (2 * step.reshape(-1, *[1] * (v.ndim - 1)))
