"""A multilayer perceptron, for fields of a few values."""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from torch import Tensor, nn

from infield.core.errors import InfieldError


class Perceptron(nn.Module):
    """Maps `(batch, inputs, *space)` and numbers `(batch, times)` to `(batch, channel, *space)`; zero before training.

    Arguments:
        channels: Channels of the field.
        shape: Points along each axis.
        width: Hidden units a layer.
        depth: Hidden layers.
        inputs: Channels of what goes in; by default those of the field.
        times: Numbers that go in.
    """

    def __init__(
        self,
        channels: int,
        shape: tuple[int, ...],
        width: int = 256,
        depth: int = 4,
        inputs: int | None = None,
        times: int = 1,
    ) -> None:
        super().__init__()
        if channels < 1 or width < 1 or depth < 1 or min(shape) < 1:
            raise InfieldError(
                where="perceptron",
                found=f"channels {channels}, shape {list(shape)}, width {width}, depth {depth}",
                remedy="expected positive numbers",
            )
        self.channels, self.shape = channels, tuple(shape)
        self.arguments: dict[str, Any] = {
            "channels": channels,
            "shape": list(shape),
            "width": width,
            "depth": depth,
            "inputs": inputs,
            "times": times,
        }
        points = math.prod(shape)
        sizes = [(inputs or channels) * points + times] + [width] * depth
        hidden = [part for a, b in itertools.pairwise(sizes) for part in (nn.Linear(a, b), nn.SiLU())]
        self.layers = nn.Sequential(*hidden, nn.Linear(width, channels * points))
        for parameter in self.layers[-1].parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Fields and what they are conditioned on, and numbers; the result has the channels of the field."""
        values = torch.cat([x.flatten(1), t.reshape(len(x), -1)], dim=1)
        return self.layers(values).reshape(len(x), self.channels, *self.shape)
