"""A linear map and its adjoint for autograd: each is the other's derivative, and no field is kept."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Map = Callable[[Tensor], Tensor]


class LinearProduct(torch.autograd.Function):
    """`LinearProduct.apply(x, product, adjoint)` is `product(x)`, which is computed without a graph."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, product: Map, adjoint: Map) -> Tensor:
        ctx.maps = product, adjoint
        return product(x)

    @staticmethod
    def backward(ctx: Any, *v: Tensor) -> tuple[Tensor, None, None]:
        product, adjoint = ctx.maps
        return LinearProduct.apply(v[0], adjoint, product), None, None
