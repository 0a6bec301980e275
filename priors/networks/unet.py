"""A U-Net for fields on a fixed grid, of one, two or three space axes (Ronneberger et al. 2015, arXiv:1505.04597)."""

from __future__ import annotations

import itertools
import math
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from infield.core.errors import InfieldError
from infield.priors.networks.group_norm import GroupNorm
from infield.priors.networks.periodic import FORMATS, closed
from infield.priors.networks.time_embedding import Numbers, TimeEmbedding


class _Closing(nn.Module):
    """A convolution with periodic axes."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(closed(x))  # type: ignore[misc, no-any-return]


class _Closing1(_Closing, nn.Conv1d): ...


class _Closing2(_Closing, nn.Conv2d): ...


class _Closing3(_Closing, nn.Conv3d): ...


_CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
_CLOSING = {1: _Closing1, 2: _Closing2, 3: _Closing3}
_TRANSPOSED = {1: nn.ConvTranspose1d, 2: nn.ConvTranspose2d, 3: nn.ConvTranspose3d}


class UNet(nn.Module):
    """Maps a field `(batch, channel, *space)` and times `(batch,)` to a field of the same shape; zero before training.

    With `inputs` and `times` it maps fields and what they are conditioned on, `(batch, inputs, *space)`, and several
    numbers in [0, 1] each, `(batch, times)`, and can be differentiated in these numbers.

    Sizes need not be powers of two: the field is padded to a multiple of the coarsest cell and the result is cropped.

    Arguments:
        channels: Channels of the field.
        ndim: Number of space axes, 1 to 3.
        widths: Channels of the hidden layers at each level, finest first; each level halves the resolution.
        blocks: Residual blocks at each level, on the way down and again on the way up.
        unshuffle: Fold each 2 x ... x 2 cell into channels first: more than four times faster in two dimensions, at the
            price of detail in the finest layer.
        periodic: Convolutions are circular; otherwise the edge of the domain is padded with zeros.
        inputs: Channels of what goes in, where they are more than those of the field.
        times: Numbers that go in.
    """

    def __init__(
        self,
        channels: int,
        ndim: int = 2,
        widths: tuple[int, ...] = (32, 64, 128),
        blocks: int = 1,
        unshuffle: bool = True,
        periodic: bool = True,
        inputs: int | None = None,
        times: int = 1,
    ) -> None:
        super().__init__()
        if ndim not in _CONVOLUTIONS or channels < 1 or blocks < 1 or not widths or min(widths) < 1:
            raise InfieldError(
                where="U-Net",
                found=f"ndim {ndim}, channels {channels}, blocks {blocks}, widths {list(widths)}",
                remedy="expected ndim 1 to 3 and positive numbers",
            )
        self.channels, self.ndim, self.periodic = channels, ndim, periodic
        self.cell = 2 if unshuffle else 1
        self.multiple = self.cell * 2 ** (len(widths) - 1)
        self.arguments: dict[str, Any] = {
            "channels": channels,
            "ndim": ndim,
            "widths": list(widths),
            "blocks": blocks,
            "unshuffle": unshuffle,
            "periodic": periodic,
        }
        if inputs is not None or times > 1:
            self.arguments |= {"inputs": inputs, "times": times}
        folded, time = channels * self.cell**ndim, 4 * widths[0]

        def chain(width_in: int, width: int) -> nn.ModuleList:
            widths_in = [width_in] + [width] * (blocks - 1)
            return nn.ModuleList(_ResidualBlock(w, width, time, ndim, periodic) for w in widths_in)

        self.time: nn.Module = TimeEmbedding(time)
        if times > 1:
            self.time = Numbers(time, times)
        self.stem = _convolution((inputs or channels) * self.cell**ndim, widths[0], ndim, periodic)
        self.down = nn.ModuleList(chain(width, width) for width in widths)
        steps = list(itertools.pairwise(widths))
        self.coarser = nn.ModuleList(_CONVOLUTIONS[ndim](a, b, kernel_size=2, stride=2) for a, b in steps)
        self.finer = nn.ModuleList(_TRANSPOSED[ndim](b, a, kernel_size=2, stride=2) for a, b in steps)
        self.up = nn.ModuleList(chain(2 * a, a) for a, _ in steps)
        self.norm = _norm(widths[0])
        self.head = _convolution(widths[0], folded, ndim, periodic)
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)
        if ndim + 2 in FORMATS:
            self.to(memory_format=FORMATS[ndim + 2])  # type: ignore[call-overload]

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Fields `(batch, channel, *space)` at times `(batch,)`; the result has the shape of `x`."""
        space = x.shape[2:]
        embedding = self.time(t)
        h = _fold(self._pad(x), self.cell)
        if h.ndim in FORMATS:
            h = h.contiguous(memory_format=FORMATS[h.ndim])
        h = self.stem(h)
        passed = []
        for level, blocks in enumerate(self.down):
            for block in cast(nn.ModuleList, blocks):
                h = block(h, embedding)
            if level < len(self.coarser):
                passed.append(h)
                h = self.coarser[level](h)
        for level in reversed(range(len(self.up))):
            h = torch.cat([self.finer[level](h), passed[level]], dim=1)
            for block in cast(nn.ModuleList, self.up[level]):
                h = block(h, embedding)
        h = _unfold(self.head(functional.silu(self.norm(h))), self.cell, self.ndim)
        inside: tuple[Any, ...] = (..., *(slice(n) for n in space))
        return h[inside]

    def start_without(self, count: int) -> None:
        """Set the weights of the first `count` channels that go in to zero: their effect is learned later."""
        with torch.no_grad():
            self.stem.weight[:, : count * self.cell**self.ndim] = 0  # type: ignore[index, operator]

    def _pad(self, x: Tensor) -> Tensor:
        missing = [-n % self.multiple for n in x.shape[2:]]
        if not any(missing):
            return x
        if any(m > n for m, n in zip(missing, x.shape[2:], strict=True)):
            found = " x ".join(map(str, x.shape[2:]))
            raise InfieldError(
                where="U-Net",
                found=f"a field of {found} points, too small for coarsest cells of {self.multiple} points",
                remedy="use fewer levels (widths)",
            )
        widths = [width for m in reversed(missing) for width in (0, m)]
        return functional.pad(x, widths, mode="circular" if self.periodic else "replicate")


class _ResidualBlock(nn.Module):
    def __init__(self, width_in: int, width: int, time: int, ndim: int, periodic: bool) -> None:
        super().__init__()
        self.norms = nn.ModuleList([_norm(width_in), _norm(width)])
        self.convolutions = nn.ModuleList(
            [_convolution(width_in, width, ndim, periodic), _convolution(width, width, ndim, periodic)]
        )
        self.modulation = nn.Linear(time, 2 * width)
        self.shortcut = _CONVOLUTIONS[ndim](width_in, width, kernel_size=1) if width_in != width else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.convolutions[0](functional.silu(self.norms[0](x)))
        scale, shift = self.modulation(embedding).reshape(len(x), -1, *[1] * (x.ndim - 2)).chunk(2, dim=1)
        h = self.norms[1](h) * (1 + scale) + shift
        return self.shortcut(x) + self.convolutions[1](functional.silu(h))


def _convolution(width_in: int, width: int, ndim: int, periodic: bool) -> nn.Module:
    if periodic:
        return _CLOSING[ndim](width_in, width, kernel_size=3)
    return _CONVOLUTIONS[ndim](width_in, width, kernel_size=3, padding=1)


def _norm(width: int) -> GroupNorm:
    return GroupNorm(math.gcd(8, width), width)


def _fold(x: Tensor, cell: int) -> Tensor:
    """Move every cell of `cell` points an axis into channels (pixel-unshuffle on any number of axes)."""
    ndim = x.ndim - 2
    split = [size for n in x.shape[2:] for size in (n // cell, cell)]
    x = x.reshape(*x.shape[:2], *split)
    order = [0, 1, *range(3, 3 + 2 * ndim, 2), *range(2, 2 + 2 * ndim, 2)]
    return x.permute(order).reshape(x.shape[0], -1, *split[::2])


def _unfold(x: Tensor, cell: int, ndim: int) -> Tensor:
    """The inverse of `_fold`."""
    channels = x.shape[1] // cell**ndim
    space = [cell * n for n in x.shape[2:]]
    x = x.reshape(x.shape[0], channels, *[cell] * ndim, *x.shape[2:])
    order = [0, 1, *(axis for a in range(ndim) for axis in (2 + ndim + a, 2 + a))]
    return x.permute(order).reshape(x.shape[0], channels, *space)
