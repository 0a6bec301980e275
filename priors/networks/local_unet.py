"""A U-Net for lightcones `(x, y, line of sight)` with a finite receptive field, so that their depth is arbitrary.

As the three-dimensional U-Net of Xia & Wise 2026 (arXiv:2605.29016), after Ronneberger et al. 2015 (arXiv:1505.04597),
with three differences. The normalisation is over the channels of one voxel (Ba et al. 2016, arXiv:1607.06450) and not
over space, so that the output at a voxel depends on a neighbourhood alone, and a lightcone cut into segments with halos
of `reach` cells gives the same result. x and y are periodic, as in simulated boxes; the line of sight is not. The
position along it is an additional input, not implied by a fixed depth.
"""

from __future__ import annotations

import itertools
from typing import Any, cast

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from infield.core.errors import InfieldError
from infield.priors.networks.time_embedding import Numbers, TimeEmbedding


class LocalUNet(nn.Module):
    """Maps inputs `(batch, inputs, x, y, los)`, times and numbers to fields `(batch, channels, x, y, los)`; zero before
    training.

    Arguments:
        channels: Channels of the field.
        inputs: Channels of what goes in.
        numbers: Numbers in [0, 1] that it is conditioned on, beside the time.
        widths: Channels of the hidden layers at each level, finest first; each level halves the resolution, and the
            finest has cells of 2 x 2 x 2 points.
        blocks: Residual blocks at each level, on the way down and again on the way up.
        checkpointing: Whether activations inside blocks are computed anew in the backward pass, for memory.
    """

    def __init__(
        self,
        channels: int = 2,
        inputs: int = 7,
        numbers: int = 2,
        widths: tuple[int, ...] = (32, 64, 128),
        blocks: int = 1,
        checkpointing: bool = False,
    ) -> None:
        super().__init__()
        if min(channels, inputs, blocks, *widths) < 1 or numbers < 0 or not widths:
            raise InfieldError(
                where="local U-Net",
                found=(
                    f"channels {channels}, inputs {inputs}, numbers {numbers}, widths {list(widths)}, blocks {blocks}"
                ),
                remedy="expected positive numbers",
            )
        self.channels, self.checkpointing = channels, checkpointing
        self.multiple = UNSHUFFLE * 2 ** (len(widths) - 1)
        self.arguments: dict[str, Any] = {
            "channels": channels,
            "inputs": inputs,
            "numbers": numbers,
            "widths": list(widths),
            "blocks": blocks,
        }
        embedding = 4 * widths[0]

        def chain(width_in: int, width: int) -> nn.ModuleList:
            widths_in = [width_in] + [width] * (blocks - 1)
            return nn.ModuleList(_ResidualBlock(w, width, embedding) for w in widths_in)

        self.time = TimeEmbedding(embedding)
        self.numbers = Numbers(embedding, numbers) if numbers else None
        self.stem = _Convolution(inputs * UNSHUFFLE**3, widths[0])
        self.down = nn.ModuleList(chain(width, width) for width in widths)
        steps = list(itertools.pairwise(widths))
        self.coarser = nn.ModuleList(nn.Conv3d(a, b, kernel_size=2, stride=2) for a, b in steps)
        self.finer = nn.ModuleList(nn.ConvTranspose3d(b, a, kernel_size=2, stride=2) for a, b in steps)
        self.up = nn.ModuleList(chain(2 * a, a) for a, _ in steps)
        self.norm = _ChannelNorm(widths[0])
        self.head = _Convolution(widths[0], channels * UNSHUFFLE**3)
        for parameter in self.head.parameters():
            nn.init.zeros_(parameter)
        # Space last in memory: convolutions in bf16 are ten times faster so on a processor, twice on a GPU.
        self.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]

    @property
    def reach(self) -> int:
        """Receptive radius in cells of the line of sight, rounded up to a multiple of the coarsest cell."""
        blocks, levels = self.arguments["blocks"], len(self.arguments["widths"])
        cells = [UNSHUFFLE * 2**level for level in range(levels)]
        passes = [2 if level < levels - 1 else 1 for level in range(levels)]  # down and up again, but at the bottom
        radius = 2 * UNSHUFFLE + sum(2 * blocks * n * cell for n, cell in zip(passes, cells, strict=True))
        radius += self.multiple  # a coarse cell counts as a whole
        return -(-radius // self.multiple) * self.multiple

    def forward(self, x: Tensor, t: Tensor, numbers: Tensor | None = None) -> Tensor:
        """Fields for inputs `(batch, inputs, x, y, los)`, times `(batch,)` and numbers `(batch, numbers)`.

        Raises:
            InfieldError: A side of the field is no multiple of the coarsest cell.
        """
        if any(n % self.multiple for n in x.shape[2:]):
            found = " x ".join(map(str, x.shape[2:]))
            raise InfieldError(where="local U-Net", found=f"{found} points", expected=f"multiples of {self.multiple}")
        embedding = self.time(t)
        if self.numbers is not None:
            embedding = embedding + self.numbers(numbers)
        h = self.stem(_fold(x).contiguous(memory_format=torch.channels_last_3d))
        passed = []
        for level, blocks in enumerate(self.down):
            h = self._through(blocks, h, embedding)
            if level < len(self.coarser):
                passed.append(h)
                h = self.coarser[level](h)
        for level in reversed(range(len(self.up))):
            h = torch.cat([self.finer[level](h), passed[level]], dim=1)
            h = self._through(self.up[level], h, embedding)
        return _unfold(self.head(functional.silu(self.norm(h))))

    def _through(self, blocks: nn.Module, h: Tensor, embedding: Tensor) -> Tensor:
        for block in cast(nn.ModuleList, blocks):
            again = self.checkpointing and torch.is_grad_enabled()
            h = checkpoint(block, h, embedding, use_reentrant=False) if again else block(h, embedding)  # type: ignore[assignment]
        return h


UNSHUFFLE = 2
"""Points of the finest cell along each axis: the network works on cells, whose points are channels."""


class _ResidualBlock(nn.Module):
    def __init__(self, width_in: int, width: int, embedding: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList([_ChannelNorm(width_in), _ChannelNorm(width)])
        self.convolutions = nn.ModuleList([_Convolution(width_in, width), _Convolution(width, width)])
        self.modulation = nn.Linear(embedding, 2 * width)
        self.shortcut = nn.Conv3d(width_in, width, kernel_size=1) if width_in != width else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        h = self.convolutions[0](functional.silu(self.norms[0](x)))
        scale, shift = self.modulation(embedding)[..., None, None, None].to(h.dtype).chunk(2, dim=1)
        h = torch.addcmul(shift, self.norms[1](h), 1 + scale)
        return self.shortcut(x) + self.convolutions[1](functional.silu(h))


class _Convolution(nn.Conv3d):
    """3 x 3 x 3; x and y close, the line of sight ends in zeros."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__(width_in, width, kernel_size=3)

    def forward(self, x: Tensor) -> Tensor:
        return functional.conv3d(_Around.apply(x), self.weight, self.bias, padding=(0, 0, 1))


class _Around(torch.autograd.Function):
    """One more point on each side of x and y, from the other side.

    As `functional.pad` has it, but with channels last in memory and without a tensor of zeros for each slice in the
    backward pass: half of the time of a training step.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        x = torch.cat([x[:, :, -1:], x, x[:, :, :1]], dim=2)
        return torch.cat([x[:, :, :, -1:], x, x[:, :, :, :1]], dim=3)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (g,) = gradients
        along_y = g[:, :, :, 1:-1].clone(memory_format=torch.preserve_format)
        along_y[:, :, :, -1] += g[:, :, :, 0]
        along_y[:, :, :, 0] += g[:, :, :, -1]
        inside = along_y[:, :, 1:-1].clone(memory_format=torch.preserve_format)
        inside[:, :, -1] += along_y[:, :, 0]
        inside[:, :, 0] += along_y[:, :, -1]
        return inside


class _ChannelNorm(nn.LayerNorm):
    """Over the channels of each place."""

    def forward(self, x: Tensor) -> Tensor:
        weight, bias = self.weight.to(x.dtype), self.bias.to(x.dtype)
        return functional.layer_norm(x.movedim(1, -1), self.normalized_shape, weight, bias, self.eps).movedim(-1, 1)


def _fold(x: Tensor) -> Tensor:
    """The points of each cell as channels."""
    return rearrange(x, "b c (x i) (y j) (z k) -> b (c i j k) x y z", i=UNSHUFFLE, j=UNSHUFFLE, k=UNSHUFFLE)


def _unfold(x: Tensor) -> Tensor:
    """The inverse of `_fold`."""
    return rearrange(x, "b (c i j k) x y z -> b c (x i) (y j) (z k)", i=UNSHUFFLE, j=UNSHUFFLE, k=UNSHUFFLE)
