"""Side information of a measurement: numbers and fields on which a prior may be conditioned."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from infield.core.errors import InfieldError


@dataclass(frozen=True, eq=False)
class Quantity:
    """A number or a field in units.

    Arguments:
        value: A number, or a field of shape `(1, channel, *space)` on the grid of the measurement, with channels of
            its own.
        units: Its units, "1" for none.

    Raises:
        InfieldError: It is not finite.
    """

    value: float | Tensor
    units: str = "1"

    def __post_init__(self) -> None:
        values = torch.as_tensor(self.value)
        wrong = int((~torch.isfinite(values)).sum())
        if wrong:
            raise InfieldError(
                where="context",
                found=f"NaN or infinity in {wrong} of {values.numel()} values",
                expected="finite values",
            )

    @property
    def number(self) -> float | None:
        """The number; None for a field."""
        return None if isinstance(self.value, Tensor) else float(self.value)

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Quantity:
        """The same on another device or in another precision."""
        return replace(self, value=self.value.to(device, dtype)) if isinstance(self.value, Tensor) else self
