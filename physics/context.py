"""Side information of a measurement: numbers and fields on which a prior may be conditioned."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, eq=False)
class Quantity:
    """A number or a field in units.

    Arguments:
        value: A number, or a field of shape `(1, channel, *space)` on the grid of the measurement.
        units: Its units, "1" for none.
    """

    value: float | Tensor
    units: str = "1"

    @property
    def number(self) -> float | None:
        """The number; None for a field."""
        return None if isinstance(self.value, Tensor) else float(self.value)
