"""Small networks from parameters and distance to properties of the slices of lightcones, and their fit."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch import Generator, Tensor, nn


class SliceNetwork(nn.Module):
    """Numbers per slice as functions of parameters and position in [0, 1].

    Arguments:
        parameters: Number of parameters.
        channels: Channels of the fields.
        width: Width of the hidden layers.
        outputs: Outputs per channel of a slice.
        hidden: Number of hidden layers.
        told: Number of further inputs per slice.
        zero: Whether the output is 0 before the fit.
        members: Size of the ensemble whose mean is the output: the errors of its members differ.
    """

    def __init__(
        self,
        parameters: int,
        channels: int,
        width: int,
        *,
        outputs: int,
        hidden: int,
        told: int = 0,
        zero: bool,
        members: int = 1,
    ) -> None:
        super().__init__()
        self.arguments: dict[str, Any] = {"parameters": parameters, "channels": channels, "width": width}
        sizes = [1 + parameters + told, *[width] * hidden, channels * outputs]
        self.layers, *others = (_layers(sizes, zero) for _ in range(members))
        self.others = nn.ModuleList(others)

    def numbers(self, theta: Tensor, s: Tensor, *told: Tensor) -> Tensor:
        """Shape `(batch, los, outputs)`, of parameters `(batch, parameters)`, places `(batch, los)` and what else it is
        told, `(batch, los, numbers)`."""
        theta = theta[:, None].expand(-1, s.shape[1], -1)
        given = torch.cat([2 * torch.cat([s[..., None], theta], dim=-1) - 1, *told], dim=-1)
        found: Tensor = self.layers(given)
        for other in self.others:
            found = found + other(given)
        return found / (1 + len(self.others))

    @torch.no_grad()
    def begin(self, generator: Generator) -> None:
        """First weights of a single one; layers of zeros stay so."""
        for layer in self.layers:
            if isinstance(layer, nn.Linear) and layer.weight.any():
                bound = math.sqrt(3 / layer.in_features)
                layer.weight.copy_(bound * (2 * torch.rand(layer.weight.shape, generator=generator) - 1))
                layer.bias.zero_()


def _layers(sizes: Sequence[int], zero: bool) -> nn.Sequential:
    *hidden, last = (nn.Linear(before, after) for before, after in itertools.pairwise(sizes))
    if zero:
        for parameter in last.parameters():
            nn.init.zeros_(parameter)
    return nn.Sequential(*(part for layer in hidden for part in (layer, nn.SiLU())), last)


Kind = TypeVar("Kind", bound=SliceNetwork)


def to_parts(model: SliceNetwork) -> dict[str, Any]:
    """Return the checkpoint entry of one."""
    weights = {name: value.detach().cpu() for name, value in model.state_dict().items()}
    return {"arguments": model.arguments, "weights": weights}


def from_parts(kind: type[Kind], parts: Mapping[str, Any]) -> Kind:
    """The inverse of `to_parts`."""
    model = kind(**parts["arguments"])
    model.load_state_dict(dict(parts["weights"]))
    return model.eval().requires_grad_(False)


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
        loss: Mean loss of slices, given the indices of their lightcones and positions, both of shape `(batch,)`.
        cones: Number of lightcones.
        places: Indices of the slices that count.
        seed: Random seed of initial weights and batches.
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
