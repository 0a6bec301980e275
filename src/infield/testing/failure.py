"""What a battery raises, and the comparisons that it makes."""

from __future__ import annotations

import torch
from torch import Tensor

Z_THRESHOLD = 4.5
"""Of z-scores, of which a battery looks at a few hundred: exceeded by chance in one run of several hundred."""


class CheckFailed(AssertionError):
    """A check of a battery does not hold.

    Arguments:
        check: Name of the check, e.g. "adjoint".
        line: What was found and what was expected.
    """

    def __init__(self, check: str, line: str) -> None:
        self.check = check
        super().__init__(f"{check}: {line}")


def require(holds: bool, check: str, line: str) -> None:
    """Raise `CheckFailed` unless something holds."""
    if not holds:
        raise CheckFailed(check, line)


def require_shape(found: object, shape: tuple[int, ...], check: str) -> None:
    """Require a tensor of a shape, of real floating-point numbers, all finite."""
    require(isinstance(found, Tensor), check, f"found {type(found).__name__}, expected a tensor")
    assert isinstance(found, Tensor)
    require(tuple(found.shape) == tuple(shape), check, f"found shape {tuple(found.shape)}, expected {tuple(shape)}")
    require(found.is_floating_point(), check, f"found {found.dtype}, expected real floating-point numbers")
    require(bool(torch.isfinite(found).all()), check, "found NaN or infinity, expected finite numbers")


def require_close(found: Tensor, expected: Tensor, tolerance: float, check: str, what: str) -> None:
    """Require |found - expected| <= tolerance |expected|, by the Euclidean norm."""
    require_shape(found, tuple(expected.shape), check)
    scale = float(expected.double().norm().clamp_min(1e-300))
    error = float((found.double() - expected.double()).norm()) / scale
    require(error <= tolerance, check, f"{what} differ by {error:.2g} of their norm, expected at most {tolerance:.2g}")


def require_z(z: Tensor | float, check: str, what: str, threshold: float = Z_THRESHOLD) -> None:
    """Require all z-scores to be within the threshold."""
    worst = float(torch.as_tensor(z).abs().max())
    require(worst <= threshold, check, f"{what}: found a z-score of {worst:.1f}, expected at most {threshold:g}")
