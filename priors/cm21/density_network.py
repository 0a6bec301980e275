"""The network that maps the initial density of a simulation to a lightcone (`priors.cm21.emulator`).

Whatever is independent of parameters and distance is computed once, in the box of initial conditions: a periodic
encoder gives features of the neighbourhood of each cell of the box. The lightcone is cut from these features as a
simulator cuts it from its boxes, and a U-Net along it (Ronneberger et al. 2015, arXiv:1505.04597), conditioned on the
parameters and the distance of every slice, gives two channels. One call is therefore cheap on a CPU: a lightcone is
sixteen boxes long.

As `priors.networks.local_unet`, the U-Net has a finite receptive field, is periodic in x and y, and works on cells of
2 x 2 x 2 points. There is one normalisation per level, over the channels of a voxel: with few channels they cost as
much as convolutions, and without any a training diverged after 2,100 steps. The line of sight is the first space axis,
so that segments and slices are contiguous in memory.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional

from infield.core.errors import InfieldError

UNSHUFFLE = 2
"""Points of the finest cell along each axis: the network works on cells, whose points are channels."""

OUTPUTS = 2
"""Channels of a point: its temperature if neutral, and the logit of being ionised."""

SLOPE = 0.1
"""Slope of the nonlinearity for negative inputs: with 0, hidden layers died in the first hundred training steps."""


class DensityNetwork(nn.Module):
    """Maps a box of initial conditions to fields along a line of sight; zero before training.

    Arguments:
        seen: Input channels per cell of the box (`priors.cm21.initial_density`).
        told: Conditioning numbers per cell of the line of sight.
        encoder: Channels of the encoder.
        widths: Channels of the hidden layers at each level of the U-Net, finest first; each level halves the
            resolution.
    """

    def __init__(
        self,
        seen: int = 92,
        told: int = 23,
        encoder: int = 64,
        widths: tuple[int, ...] = (32, 64, 96),
    ) -> None:
        super().__init__()
        if min(seen, told, encoder, *widths) < 1 or not widths:
            raise InfieldError(
                where="network of the density",
                found=f"seen {seen}, told {told}, encoder {encoder}, widths {list(widths)}",
                remedy="expected positive numbers",
            )
        self.arguments: dict[str, Any] = {
            "seen": seen,
            "told": told,
            "encoder": encoder,
            "widths": list(widths),
        }
        self.multiple = UNSHUFFLE * 2 ** (len(widths) - 1)
        steps = list(itertools.pairwise(widths))
        self.encoder = nn.ModuleList(
            nn.Conv3d(before, after, kernel_size=3)
            for before, after in ((seen, encoder), (encoder, encoder), (encoder, widths[0]))
        )
        self.down = nn.ModuleList(_ResidualBlock(width) for width in widths[1:])
        self.up = nn.ModuleList(_ResidualBlock(width) for width in widths[:-1])
        self.coarser = nn.ModuleList(nn.Conv3d(a, b, kernel_size=2, stride=2) for a, b in steps)
        self.finer = nn.ModuleList(nn.Conv3d(b, a * 2**3, kernel_size=1) for a, b in steps)
        self.said = nn.ModuleList(_modulation(told, width) for width in widths)
        self.head = nn.Conv3d(widths[0], OUTPUTS * UNSHUFFLE**3, kernel_size=3, padding=(1, 0, 0))
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)
        self.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    @property
    def reach(self) -> int:
        """Receptive radius of the U-Net in points of the line of sight, a multiple of its coarsest cell."""
        levels = len(self.arguments["widths"])
        radius = UNSHUFFLE + self.multiple  # head; a coarse cell counts as a whole
        for level in range(levels):
            passes = 2 if 0 < level < levels - 1 else 1  # down and up again, but at the top and at the bottom
            radius += 2 * passes * UNSHUFFLE * 2**level
        return -(-radius // self.multiple) * self.multiple

    def film_parameters(self, told: Tensor) -> list[Tensor]:
        """Return scale and shift of each level, shapes `(batch, 2 width, cells)`, from the conditioning numbers of the
        finest cells, shape `(batch, told, los / 2)`."""
        each = [functional.avg_pool1d(told, 2**level) if level else told for level in range(len(self.said))]
        return [layers(cells.mT).mT for layers, cells in zip(self.said, each, strict=True)]

    def encode(self, box: Tensor) -> Tensor:
        """Features `(batch, los, x, y, width)` of the cells of boxes, `(batch, los, x, y, seen)`."""
        first, second, last = self.encoder
        h = first(_around(box.to(self.head.weight.dtype).movedim(-1, 1)))
        h = h + second(_around(functional.leaky_relu(h, SLOPE)))
        return _standardised(last(_around(functional.leaky_relu(h, SLOPE)))).movedim(1, -1)

    def forward(self, features: Tensor, said: Sequence[Tensor]) -> Tensor:
        """Two channels `(batch, 2, los, x, y)`.

        Arguments:
            features: Along the line of sight, shape `(batch, los / 2, x / 2, y / 2, width)`.
            said: See `film_parameters`.

        Raises:
            InfieldError: A side of the field is no multiple of the coarsest cell.
        """
        shape = features.shape[1:4]
        if any(UNSHUFFLE * size % self.multiple for size in shape):
            found = " x ".join(str(UNSHUFFLE * size) for size in shape)
            raise InfieldError(
                where="network of the density", found=f"{found} points", expected=f"multiples of {self.multiple}"
            )
        h, passed = features.movedim(-1, 1), []
        for level in range(len(said)):
            h = _standardised(self.coarser[level - 1](h)) if level else h
            scale, shift = said[level][..., None, None].to(h).chunk(2, dim=1)
            h = torch.addcmul(shift, 1 + scale, h)
            h = self.down[level - 1](h) if level else h
            passed.append(h)
        for level in reversed(range(len(self.up))):
            h = _finer(self.finer[level](h)).add_(passed[level])
            h = self.up[level](h)
        return _unfold(self.head(_bent_around(h)))


def _modulation(told: int, width: int) -> nn.Sequential:
    """Scale and shift of channels; none before training."""
    last = nn.Linear(64, 2 * width)
    for parameter in last.parameters():
        nn.init.zeros_(parameter)
    return nn.Sequential(nn.Linear(told, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), last)


def _standardised(h: Tensor) -> Tensor:
    """Mean 0 and variance 1 over the channels of each place."""
    return functional.layer_norm(h.movedim(1, -1), (h.shape[1],)).movedim(-1, 1)


def _around(x: Tensor) -> Tensor:
    """One more cell on each side of a box, from the other side; on small boxes faster than
    `priors.networks.periodic`.
    """
    return functional.pad(x, (1,) * 6, mode="circular")


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
    return rearrange(h, "b (i j k c) los x y -> b (los i) (x j) (y k) c", i=2, j=2, k=2).movedim(-1, 1)


def _unfold(h: Tensor) -> Tensor:
    """Channels of a cell as the points in it."""
    return rearrange(
        h, "b (c i j k) los x y -> b c (los i) (x j) (y k)", c=OUTPUTS, i=UNSHUFFLE, j=UNSHUFFLE, k=UNSHUFFLE
    )
