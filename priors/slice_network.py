"""Small networks of what parameters and distance say of the slices of lightcones, and their fit to slices."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor, nn


class SliceNetwork(nn.Module):
    """Numbers for parameters and places in [0, 1].

    Arguments:
        parameters: How many.
        channels: Of the fields.
        width: Of the hidden layers.
        outputs: Numbers for each channel of a slice.
        hidden: How many hidden layers.
        told: How many other numbers of a slice it is told.
        zero: Whether it gives 0 before the fit.
    """

    def __init__(
        self, parameters: int, channels: int, width: int, *, outputs: int, hidden: int, told: int = 0, zero: bool
    ) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {"parameters": parameters, "channels": channels, "width": width}
        layers: list[nn.Module] = [nn.Linear(1 + parameters + told, width), nn.SiLU()]
        for _ in range(hidden - 1):
            layers += [nn.Linear(width, width), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(width, channels * outputs))
        if zero:
            for parameter in self.layers[-1].parameters():
                nn.init.zeros_(parameter)

    def numbers(self, theta: Tensor, s: Tensor, *told: Tensor) -> Tensor:
        """Shape `(batch, los, outputs)`, of parameters `(batch, parameters)`, places `(batch, los)` and what else it is
        told, `(batch, los, numbers)`."""
        theta = theta[:, None].expand(-1, s.shape[1], -1)
        found: Tensor = self.layers(torch.cat([2 * torch.cat([s[..., None], theta], dim=-1) - 1, *told], dim=-1))
        return found

    @torch.no_grad()
    def begin(self, generator: Generator) -> None:
        """First weights; layers of zeros stay so."""
        for layer in self.layers:
            if isinstance(layer, nn.Linear) and layer.weight.any():
                bound = math.sqrt(3 / layer.in_features)
                layer.weight.copy_(bound * (2 * torch.rand(layer.weight.shape, generator=generator) - 1))
                layer.bias.zero_()


def fit_to_slices(
    model: SliceNetwork,
    loss: Callable[[Tensor, Tensor], Tensor],
    cones: int,
    places: range,
    *,
    seed: int,
    steps: int,
    batch: int,
    rate: float,
) -> None:
    """Least mean loss over slices, by Adam with a cosine schedule.

    Arguments:
        model: Its weights are changed.
        loss: Mean loss of slices, told by the numbers of their cones and of their places, both of shape `(batch,)`.
        cones: How many there are.
        places: Of slices that count.
        seed: Of first weights and batches.
        steps, batch: Steps, and slices in each.
        rate: Learning rate at first.
    """
    generator = Generator().manual_seed(seed)
    model.begin(generator)
    optimizer = torch.optim.Adam(model.parameters(), lr=rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for _ in range(steps):
        which = torch.randint(cones, (batch,), generator=generator)
        where = torch.randint(places.start, places.stop, (batch,), generator=generator)
        optimizer.zero_grad()
        loss(which, where).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
