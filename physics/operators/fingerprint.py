"""What tells an operator from others of its kind: by these numbers a trained posterior knows which it serves."""

from __future__ import annotations

import torch

from infield.core._deepinv import LinearPhysics
from infield.physics.operators.composition import without_units
from infield.physics.operators.convolution import Convolution


def operator_numbers(operator: LinearPhysics) -> tuple[str, dict[str, float]]:
    """Name of an operator and its numbers, whatever standardisation stands before it.

    `observed` is the share of the data that are measured, `passed` the mean power of the waves that a convolution lets
    through over that of the strongest.
    """
    bare = without_units(operator)
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
