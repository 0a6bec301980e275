"""Response of projectors: emitted light of a drive signal, by a monotone table for each projector and channel."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from infield.core._deepinv import Physics
from infield.core.errors import InfieldError
from infield.core.grid import Grid
from infield.physics.operators.base import plain_physics


class Response(Physics):
    """Emitted light above black, 0 to 1, of drive signals between 0 and 1; linear between the entries of a table.

    Arguments:
        grid: Axes (projector, v, u).
        table: Light at equally spaced drives from 0 to 1, rising, shape `(projector, 3, entries)`.
    """

    name: ClassVar[str] = "projector-response"
    table: Tensor
    observed: Tensor | None

    def __init__(self, grid: Grid, table: Tensor) -> None:
        super().__init__(**plain_physics())
        self.grid = self.data_grid = grid
        self.channels, self.data_shape = 3, (3, *grid.shape)
        self.register_buffer("table", table)
        self.register_buffer("observed", None)

    def A(self, x: Tensor) -> Tensor:
        low, slope, part = self._at(x)
        return low + slope * part

    def A_vjp(self, x: Tensor, v: Tensor) -> Tensor:
        """The (diagonal) derivative at `x` applied to `v`; 0 beyond the ends."""
        _, slope, _ = self._at(x)
        inside = (x >= 0) & (x <= 1)
        return torch.where(inside, slope * (self.table.shape[-1] - 1), 0.0) * v

    def A_jvp(self, x: Tensor, v: Tensor) -> Tensor:
        """The same: a diagonal is its own transpose."""
        return self.A_vjp(x, v)

    def _at(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Table entry below, step to the one above, and the fraction of the step."""
        last = self.table.shape[-1] - 1
        at = x.clamp(0, 1) * last
        index = at.detach().floor().clamp(max=last - 1)
        rows = self.table.transpose(0, 1).to(x.dtype)  # (channel, projector, entries)
        rows = rows[:, :, None, None, :].expand(3, *self.grid.shape, last + 1)
        flat = index.long().movedim(0, -1)
        low, high = (torch.gather(rows, -1, flat + k).movedim(-1, 0) for k in (0, 1))
        return low, high - low, at - index


def check_response(table: np.ndarray, projectors: int) -> np.ndarray:
    """Check a table of responses.

    Raises:
        InfieldError: It has another shape, or does not rise from 0 to 1.
    """
    if table.ndim != 3 or table.shape[:2] != (projectors, 3) or table.shape[2] < 2:
        raise InfieldError(where="response", found=f"shape {table.shape}", expected=f"({projectors}, 3, entries)")
    if np.abs(table[..., 0]).max() > 1e-6 or np.abs(table[..., -1] - 1).max() > 1e-6 or (np.diff(table) < 0).any():
        raise InfieldError(where="response", found="a table that does not rise from 0 to 1", expected="a monotone one")
    return table


def drive_of_light(table: np.ndarray, light: np.ndarray) -> np.ndarray:
    """Drive signals, 0 to 1, that emit a light.

    Arguments:
        table: As of `Response`.
        light: Between 0 and 1, shape `(3, projector, v, u)`.

    Returns:
        Shape of `light`.
    """
    drive = np.empty_like(light)
    for channel in range(3):
        for p in range(light.shape[1]):
            row = table[p, channel]
            rising = np.concatenate([[True], np.diff(row) > 0])
            at = np.linspace(0, 1, len(row))
            drive[channel, p] = np.interp(light[channel, p], row[rising], at[rising])
    return drive
