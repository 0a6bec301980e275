"""Fingerprint of an operator: the numbers from which an amortised posterior decides whether it was trained for it."""

from __future__ import annotations

import torch

from infield.core._deepinv import LinearPhysics
from infield.physics.operators.composition import strip_scaling
from infield.physics.operators.convolution import Convolution


def operator_fingerprint(operator: LinearPhysics) -> tuple[str, dict[str, float]]:
    """Return the name and the fingerprint of an operator, whatever standardisation precedes it.

    `observed` is the fraction of the data that are measured; `passed` is the mean power transfer of a convolution over
    its maximum.
    """
    bare = strip_scaling(operator)
    observed = getattr(bare, "observed", None)
    numbers = {"observed": 1.0 if observed is None else float(observed.double().mean())}
    if isinstance(bare, Convolution):
        power = torch.fft.fftn(bare.A(_impulse(bare)), dim=bare.axes)
        numbers["passed"] = float((power.abs().square() / power.abs().square().max()).mean())
    return getattr(bare, "name", type(bare).__name__), numbers


def _impulse(operator: Convolution) -> torch.Tensor:
    """1 in the middle of the domain, 0 elsewhere."""
    shape = operator.grid.shape
    impulse = torch.zeros((1, 1, *shape), dtype=operator.transfer.real.dtype)
    impulse[(0, 0, *(n // 2 for n in shape))] = 1
    return impulse
