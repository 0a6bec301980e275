"""The small network of a one-step student of lightcones (`priors.lightcone_student`): made to be cheap on a processor.

As `priors.local_unet`, it sees no farther than its reach, closes in x and y, and works on cells of 2 x 2 x 2 points.
Left out is what costs more than convolutions where channels are few: there are no norms, and what parameters and
distance say is added at the coarser levels only, which have an eighth of the cells; at the finest one it is among the
inputs. What comes out has a multiple of the noise in it, since small waves swell and fade with large ones.
The line of sight is the first axis of space, so that stretches and slices are contiguous in memory.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from infield import InfieldError

CELL = 2
"""Points of the finest cell along each axis: the network works on cells, whose points are channels."""

SLOPE = 0.1
"""Of the nonlinearity, for negative numbers: with none, hidden layers died in the first hundred steps of a training."""

PAD = 8
"""Channels of the input are filled up to a multiple of this."""


class StudentNetwork(nn.Module):
    """Maps white noise and the field that it makes to what is added to the noise; zero before training.

    Arguments:
        channels: Channels of the field.
        told: Numbers that parameters and distance say of a cell of the line of sight.
        widths: Channels of the hidden layers at each level, finest first; each level halves the resolution.
        blocks: Residual blocks at each level, on the way down (but at the finest level) and again on the way up.
    """

    def __init__(
        self, channels: int = 2, told: int = 10, widths: tuple[int, ...] = (32, 64, 96), blocks: int = 1
    ) -> None:
        super().__init__()
        if min(channels, told, blocks, *widths) < 1 or not widths:
            raise InfieldError(
                f"network of a student: found channels {channels}, told {told}, widths {list(widths)}, blocks "
                f"{blocks}; expected positive numbers"
            )
        self.arguments: dict[str, Any] = {
            "channels": channels,
            "told": told,
            "widths": list(widths),
            "blocks": blocks,
        }
        self.channels, self.multiple = channels, CELL * 2 ** (len(widths) - 1)
        inputs = channels * (CELL**3 + 1) + told
        self.inputs = -(-inputs // PAD) * PAD
        steps = list(itertools.pairwise(widths))

        def chain(width: int) -> nn.ModuleList:
            return nn.ModuleList(_ResidualBlock(width) for _ in range(blocks))

        self.stem = nn.Conv3d(self.inputs, widths[0], kernel_size=3, padding=(1, 0, 0))
        self.down = nn.ModuleList(chain(width) if level else nn.ModuleList() for level, width in enumerate(widths))
        self.up = nn.ModuleList(chain(width) for width in widths[:-1])
        self.coarser = nn.ModuleList(nn.Conv3d(a, b, kernel_size=2, stride=2) for a, b in steps)
        self.finer = nn.ModuleList(nn.Conv3d(b, a * 2**3, kernel_size=1) for a, b in steps)
        self.said = nn.ModuleList(
            nn.Sequential(nn.Linear(told, 64), nn.SiLU(), nn.Linear(64, width)) for width in widths[1:]
        )
        self.head = nn.Conv3d(widths[0], 2 * channels * CELL**3, kernel_size=3, padding=(1, 0, 0))
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)
        self.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    @property
    def reach(self) -> int:
        """Cells of the line of sight beyond which nothing is felt, rounded up to a multiple of the coarsest cell."""
        blocks, levels = self.arguments["blocks"], len(self.arguments["widths"])
        felt = 2 * CELL + self.multiple  # stem and head; a coarse cell is felt as a whole
        for level in range(levels):
            passes = 2 if 0 < level < levels - 1 else 1  # down and up again, but at the top and at the bottom
            felt += 2 * blocks * passes * CELL * 2**level
        return -(-felt // self.multiple) * self.multiple

    def say(self, told: Tensor) -> list[Tensor]:
        """What is added at each level, shapes `(batch, width, cells)`, of what parameters and distance say of the
        finest cells, shape `(batch, told, los / 2)`, which comes first itself."""
        coarse = [functional.avg_pool1d(told, 2**level) for level in range(1, len(self.said) + 1)]
        return [told, *(layers(cells.mT).mT for layers, cells in zip(self.said, coarse, strict=True))]

    def forward(self, xi: Tensor, low: Tensor, said: Sequence[Tensor]) -> Tensor:
        """What is added, shape `(batch, channel, los, x, y)`.

        Arguments:
            xi: White noise, shape `(batch, channel, los, x, y)`.
            low: The field that it makes, on the grid of cells, shape `(batch, channel, los / 2, x / 2, y / 2)`.
            said: See `say`.

        Raises:
            InfieldError: A side of the field is no multiple of the coarsest cell.
        """
        if any(n % self.multiple for n in xi.shape[2:]):
            found = " x ".join(map(str, xi.shape[2:]))
            raise InfieldError(f"network of a student: found {found} points, expected multiples of {self.multiple}")
        kind = torch.bfloat16 if torch.is_autocast_enabled(xi.device.type) else self.stem.weight.dtype
        inputs = self._inputs(xi, low, said[0], kind)
        h = self.stem(inputs)
        passed = []
        for level, blocks in enumerate(self.down):
            if level:
                h = self.coarser[level - 1](h)
                h = h.add_(said[level][..., None, None].to(h))
            for block in cast(nn.ModuleList, blocks):
                h = block(h)
            passed.append(h)
        for level in reversed(range(len(self.up))):
            h = _finer(self.finer[level](h)).add_(passed[level])
            for block in cast(nn.ModuleList, self.up[level]):
                h = block(h)
        added, gain = self.head(_bent_around(h)).chunk(2, dim=1)
        noise = inputs[:, : added.shape[1], :, 1:-1, 1:-1]
        return _unfold(torch.addcmul(added, gain, noise), self.channels)

    def _inputs(self, xi: Tensor, low: Tensor, told: Tensor, kind: torch.dtype) -> Tensor:
        """The points of each cell, the field and what is told as channels, with one more cell around x and y."""
        (n, c), (depth, nx, ny) = xi.shape[:2], (size // CELL for size in xi.shape[2:])
        inputs = xi.new_empty((n, depth, nx + 2, ny + 2, self.inputs), dtype=kind)
        points, end = c * CELL**3, c * (CELL**3 + 1)
        inside = inputs[:, :, 1:-1, 1:-1]
        inside[..., :points] = _fold(xi.to(kind))
        inside[..., points:end] = low.movedim(1, -1)
        inside[..., end : end + told.shape[1]] = told.mT[:, :, None, None]
        inside[..., end + told.shape[1] :] = 0
        return _closed(inputs.movedim(-1, 1))


class _ResidualBlock(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.first, self.second = (nn.Conv3d(width, width, kernel_size=3, padding=(1, 0, 0)) for _ in range(2))
        for parameter in self.second.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.second(_bent_around(self.first(_bent_around(x))))
        return h.add_(x)  # in place: passes over memory


def _bent_around(x: Tensor) -> Tensor:
    """x, a tenth of it where it is negative, and one more cell on each side of x and y, from the other side."""
    return _BentAround.apply(x)  # type: ignore[no-any-return, no-untyped-call]


class _BentAround(torch.autograd.Function):
    """In few passes over memory, forward and back; channels stay last in it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        n, c, depth, nx, ny = x.shape
        around = x.new_empty((n, depth, nx + 2, ny + 2, c))
        torch._C._nn.leaky_relu(x.movedim(1, -1), SLOPE, out=around[:, :, 1:-1, 1:-1])
        around = _closed(around.movedim(-1, 1))
        ctx.save_for_backward(around)
        return around

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (g,), (around,) = gradients, ctx.saved_tensors
        along_y = g[..., 1:-1].clone(memory_format=torch.preserve_format)
        along_y[..., -1] += g[..., 0]
        along_y[..., 0] += g[..., -1]
        inside = along_y[:, :, :, 1:-1]
        inside[:, :, :, -1] += along_y[:, :, :, 0]
        inside[:, :, :, 0] += along_y[:, :, :, -1]
        return torch.where(around[..., 1:-1, 1:-1] > 0, inside, SLOPE * inside)


def _closed(around: Tensor) -> Tensor:
    """Fill the outermost cells in x and y from the other side, in place."""
    around[:, :, :, 0, 1:-1], around[:, :, :, -1, 1:-1] = around[:, :, :, -2, 1:-1], around[:, :, :, 1, 1:-1]
    around[..., 0], around[..., -1] = around[..., -2], around[..., 1]
    return around


def _finer(h: Tensor) -> Tensor:
    """Channels of a coarse cell as those of its 2 x 2 x 2 finer ones, which are last but the channels in memory."""
    n, _, depth, nx, ny = h.shape
    parts = h.movedim(1, -1).reshape(n, depth, nx, ny, 2, 2, 2, -1)
    return parts.permute(0, 1, 4, 2, 5, 3, 6, 7).reshape(n, 2 * depth, 2 * nx, 2 * ny, -1).movedim(-1, 1)


def _fold(x: Tensor) -> Tensor:
    """The points of each cell as channels, which are last; two copies are faster than one."""
    n, c, depth, nx, ny = x.shape
    parts = x.reshape(n, c, depth // CELL, CELL, nx // CELL, CELL, ny // CELL, CELL)
    if x.dtype == torch.bfloat16:  # two of them move as one number
        parts = parts.flatten(-2).view(torch.float32).unflatten(-1, (ny // CELL, 1))
    parts = parts.permute(0, 1, 3, 5, 7, 2, 4, 6).reshape(n, -1, depth * nx * ny // CELL**3)
    return parts.mT.contiguous().view(x.dtype).reshape(n, depth // CELL, nx // CELL, ny // CELL, c * CELL**3)


def _unfold(h: Tensor, channels: int) -> Tensor:
    """Channels of a cell as the points in it."""
    n, _, depth, nx, ny = h.shape
    parts = h.movedim(1, -1).reshape(n, depth, nx, ny, channels, CELL, CELL, CELL)
    return parts.permute(0, 4, 1, 5, 2, 6, 3, 7).reshape(n, channels, CELL * depth, CELL * nx, CELL * ny)
