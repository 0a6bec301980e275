"""Group norm (Wu & He 2018, arXiv:1803.08494), with derivatives that channels last in memory do not slow down.

torch's own has no derivative in forward mode there, and in backward mode one that takes several times as long.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class GroupNorm(nn.GroupNorm):
    """As torch's, once differentiable."""

    def forward(self, x: Tensor) -> Tensor:
        weight: Tensor = self.weight
        bias: Tensor = self.bias
        if x.device.type != "cpu":  # there alone types may differ
            weight, bias = weight.to(x.dtype), bias.to(x.dtype)
        return _Normed.apply(x, weight, bias, self.num_groups, self.eps)[0]  # type: ignore[no-any-return]


class _Normed(torch.autograd.Function):
    """y = w x^ + b, x^ = (x - m) r, with mean m and inverse standard deviation r of each group of channels.

    Both derivatives need sums over space of a field and of its product with x, for each channel; what is left is of the
    size of the channels, and then a field again: two numbers a channel times two fields, and a third.
    """

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> tuple[Tensor, Tensor, Tensor]:
        return torch.native_group_norm(x, weight, bias, len(x), x.shape[1], x[0, 0].numel(), groups, eps)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        x, weight, _, _, _ = inputs
        _, mean, r = output
        ctx.mark_non_differentiable(mean, r)
        ctx.save_for_backward(x, weight, mean, r)
        ctx.save_for_forward(x, weight, mean, r)

    @staticmethod
    def backward(ctx: Any, g: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
        # dL/dx = r (w g - mean(w g) - x^ mean(w g x^)), dL/dw = sum(g x^), dL/db = sum(g)
        x, weight, mean, r = ctx.saved_tensors
        m, r = _of_channels(mean, x), _of_channels(r, x)
        g_sum, gx_sum = _sums(g, x, r.dtype)
        normed_sum = r * (gx_sum - m * g_sum)
        of_x = -r * r * _group_mean(weight * normed_sum, mean, x)
        constant = -r * _group_mean(weight * g_sum, mean, x) - of_x * m
        dx = _combined(r * weight, g, of_x, x, constant)
        return dx, normed_sum.sum(0).to(weight), g_sum.sum(0).to(weight), None, None

    @staticmethod
    def jvp(ctx: Any, dx: Tensor, *_: Any) -> tuple[Tensor, None, None]:
        # dy = w r (dx - mean(dx) - x^ mean(x^ dx)), for weights that stay
        x, weight, mean, r = ctx.saved_tensors
        m, r = _of_channels(mean, x), _of_channels(r, x)
        d_sum, xd_sum = _sums(dx, x, r.dtype)
        of_x = -weight * r * r * _group_mean(r * (xd_sum - m * d_sum), mean, x)
        constant = -weight * r * _group_mean(d_sum, mean, x) - of_x * m
        return _combined(weight * r, dx, of_x, x, constant), None, None


def _sums(a: Tensor, x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Over space, of a and of a x, shape `(batch, channel)`."""
    space = tuple(range(2, x.ndim))
    return a.sum(space).to(dtype), (a * x).sum(space).to(dtype)


def _of_channels(s: Tensor, x: Tensor) -> Tensor:
    """One number for each group, `(batch, groups)`, as one for each channel, `(batch, channel)`."""
    s = s.reshape(len(x), -1)
    return s.to(torch.promote_types(s.dtype, torch.float32)).repeat_interleave(x.shape[1] // s.shape[1], dim=1)


def _group_mean(sums: Tensor, like: Tensor, x: Tensor) -> Tensor:
    """Means over the values of each group, from sums over space, for each of its channels, `(batch, channel)`."""
    total = sums.reshape(*like.reshape(len(x), -1).shape, -1).sum(2)
    return _of_channels(total, x) * (total.shape[1] / x[0].numel())


def _combined(a: Tensor, y: Tensor, b: Tensor, x: Tensor, c: Tensor) -> Tensor:
    """a y + b x + c of fields y and x, with numbers for each channel."""
    a, b, c = (s.reshape(*s.shape, *[1] * (x.ndim - 2)).to(x.dtype) for s in (a, b, c))
    return torch.addcmul(torch.addcmul(c, b, x), a, y)
