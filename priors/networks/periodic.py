"""Periodic padding by one point on each side of every space axis, for convolutions."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}
"""Channels last in memory, by the number of a tensor's axes: what convolutions in bf16 are fastest with."""

_INSIDE = slice(1, -1)
_PARTS = (
    (slice(0, 1), slice(-1, None)),  # the point before the first is the last one
    (_INSIDE, slice(None)),
    (slice(-1, None), slice(0, 1)),
)
"""Matching slices of the padded axis and of the axis."""


def closed(x: Tensor) -> Tensor:
    """Fields `(batch, channel, *space)`, padded periodically by one point on each side of every axis."""
    return _Closed.apply(x)  # type: ignore[no-any-return]


class _Closed(torch.autograd.Function):
    """As `functional.pad` has it with `mode="circular"`, but the order of axes in memory stays, and nothing is as large
    as the field but the result, in the backward pass too."""

    @staticmethod
    def forward(x: Tensor) -> Tensor:
        wider = x.new_empty([*x.shape[:2], *(n + 2 for n in x.shape[2:])])
        layout = FORMATS.get(x.ndim, torch.contiguous_format)
        if x.is_contiguous(memory_format=layout):
            wider = wider.contiguous(memory_format=layout)
        for there, here in _parts(x.ndim - 2):
            wider[there] = x[here]
        return wider

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        (g,) = gradients
        inside: Any = (..., *[_INSIDE] * (g.ndim - 2))
        total = g[inside].clone()
        for there, here in _parts(g.ndim - 2):
            if there != inside:
                total[here] += g[there]
        return total

    @staticmethod
    def jvp(ctx: Any, *tangents: Tensor) -> Tensor:
        return closed(*tangents)


def _parts(ndim: int) -> Iterator[tuple[Any, Any]]:
    """Matching parts of the padded field and of the field."""
    for part in itertools.product(_PARTS, repeat=ndim):
        yield (..., *(there for there, _ in part)), (..., *(here for _, here in part))
