"""A velocity that is learned in field space: the same function of fields on every grid."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from infield.priors.covariance.base import Covariance
from infield.priors.covariance.modes import Eigenbasis


@runtime_checkable
class Network(Protocol):
    """Maps fields `(batch, channel, *space)` and times `(batch,)` to fields of the same shape."""

    def __call__(self, x: Tensor, t: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class FieldParametrisation:
    r"""Map from the output of a network, applied to the field itself, to a velocity.

    With c the variance of a value of the source, 1 that of the standardised data, and :math:`p = t^2 + (1-t)^2 c`,

    .. math:: v(x, t) = \frac{t - (1-t) c}{p} x + \sqrt{c/p} \, F(x / \sqrt{p}, t).

    The first term is the velocity of independent values, of which nothing about fields follows; it and the scales give
    the network F an input and a target of unit variance (Karras et al. 2022, arXiv:2206.00364, section 5). They are
    numbers a channel and no transform of the field: where the source is one measure on every grid and F one operator on
    functions, so is the velocity. `priors.flows.flow.Parametrisation` whitens the field by the source, and white noise
    is not one measure on every grid.

    Arguments:
        source: C_0.
        emphasis: Weight of small scales in training, from 0 to 1: the error of each mode is weighted by this power of
            the inverse variance of the source. A smooth field has almost no variance at small scales, so that with 0 an
            error that is small compared with the variance may still make draws rough; with 1, all scales have the same
            weight relative to the noise, and large ones are learned later. The minimiser is the same velocity.
    """

    source: Covariance
    emphasis: float = 0.0

    def coefficients(self, t: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Gain of the first term, scale of the network's input and of its output, at times t that broadcast."""
        space = tuple(range(-self.source.diagonal.ndim + 1, 0))
        c = self.source.diagonal.mean(space, keepdim=True)  # modes are orthonormal
        p = t.square() + (1 - t).square() * c
        return (t - (1 - t) * c) / p, p.rsqrt(), (c / p).sqrt()

    def field_velocity(self, network: Network, x: Tensor, t: Tensor) -> Tensor:
        """v(x, t) of fields `(batch, channel, *space)` at times of shape `(batch,)` or `(1,)`; shape of x."""
        gain, scale_in, scale_out = self.coefficients(t.reshape(-1, *[1] * (x.ndim - 1)))
        return gain * x + scale_out * _learned(network, scale_in * x, t)

    def field_loss(self, network: Network, x_1: Tensor, white: Tensor, t: Tensor) -> Tensor:
        """Mean square error of F, shape `(batch,)`; 1 in the mean for a network that returns zero, without emphasis.

        Arguments:
            network: F.
            x_1: Standardised fields, shape `(batch, channel, *space)`.
            white: White noise of that shape, of which the source's draws are made.
            t: Times, shape `(batch,)`.
        """
        tau = t.reshape(-1, *[1] * (x_1.ndim - 1))
        gain, scale_in, scale_out = self.coefficients(tau)
        with torch.autocast(x_1.device.type, enabled=False):
            x_0 = self.source.colour(white)
        x_t = tau * x_1 + (1 - tau) * x_0
        target = (x_1 - x_0 - gain * x_t) / scale_out
        error = target - _learned(network, scale_in * x_t, t)
        if self.emphasis:
            c = self.source.diagonal
            with torch.autocast(x_1.device.type, enabled=False):
                error = self.source.modes.analyse(error) * (c.mean() / c) ** (self.emphasis / 2)
        return error.square().flatten(1).mean(1)

    def to(self, device: torch.device | str, dtype: torch.dtype) -> FieldParametrisation:
        """The same on another device, in another precision."""
        return replace(self, source=in_precision(self.source, dtype).to(device))


def in_precision(source: Covariance, dtype: torch.dtype) -> Covariance:
    """A covariance that is diagonal in its modes, in another precision."""
    modes = source.modes
    if isinstance(modes, Eigenbasis):
        modes = replace(modes, vectors=modes.vectors.to(dtype))
    return Covariance.diagonal_in(modes, source.diagonal.to(dtype))


def _learned(network: Network, x: Tensor, t: Tensor) -> Tensor:
    return network(x.float(), t.float().expand(len(x))).to(x.dtype)
