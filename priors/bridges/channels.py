r"""Channels by which a bridge reveals its target: counts that arrive, or Gaussian increments.

A channel is a process :math:`B_\tau`, :math:`\tau \ge 0`, with :math:`B_0 = 0` and independent increments given the
target :math:`x_f`. Equations are numbered as in `priors.bridges.bridge`:

.. math::
    B_{\tau+h} - B_\tau &\sim \mathrm{Poisson}(h\, x_f), & \text{counts} \tag{1} \\
    B_{\tau+h} - B_\tau &\sim N(h\, x_f,\ s^2 h), & \text{Gaussian} \tag{2}

so that :math:`B_\tau / \tau \to x_f`, and :math:`B_\tau` is sufficient for the past. The Gaussian channel is the
Brownian bridge in other coordinates: with :math:`\tau = t / (1 - t)`,

.. math::
    x_t = (1 - t)(x_b + B_\tau) = (1 - t)\, x_b + t\, x_f + s \sqrt{t (1 - t)}\, z. \tag{3}
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Generator, Tensor

from infield.core.errors import InfieldError


@dataclass(frozen=True)
class Moments:
    r"""Mean and covariance of the target given the state, :math:`V = \mathrm{diag}(v) + U U^T`.

    Arguments:
        mean: D, shape `(batch, *event)`.
        own: v, the variance of each value that it shares with no other, shape of `mean`; None where no second moment
            is known.
        factors: U, shape `(batch, rank, *event)`; None for none.
    """

    mean: Tensor
    own: Tensor | None = None
    factors: Tensor | None = None

    @property
    def variance(self) -> Tensor:
        """v + diag(U U^T), shape of `mean`.

        Raises:
            InfieldError: The denoiser has no second moment.
        """
        if self.own is None:
            raise InfieldError(
                where="bridge",
                found="a denoiser of the mean alone",
                expected="a variance beside it",
                remedy="take plain steps",
            )
        return self.own if self.factors is None else self.own + self.factors.square().sum(1)


class Channel(ABC):
    """Law of the increments given the target; `draw_target` draws the target itself from its moments."""

    name: ClassVar[str]

    @abstractmethod
    def draw_increments(self, x: Tensor, h: Tensor | float, generator: Generator) -> Tensor:
        """B_{tau + h} - B_tau given the target x.

        Arguments:
            x: Target, shape `(batch, *event)`.
            h: Lengths of the increments, above 0; a number, or a tensor that broadcasts to `x`.
            generator: Random numbers, on the device of `x`.

        Returns:
            Shape of `x`.
        """

    @abstractmethod
    def noise_variance(self, x: Tensor) -> Tensor:
        """Variance of an increment of unit length given the target, shape of `x`."""

    @abstractmethod
    def draw_target(self, moments: Moments, generator: Generator, subjects: Tensor | None = None) -> Tensor:
        """A draw of the target from a law with these moments.

        Arguments:
            moments: Mean and covariance, a row for each state.
            generator: Random numbers, on the device of the moments.
            subjects: Integers `(batch,)`: rows with the same one, e.g. slices of one head, share the factors' draw.
                By default every row has its own.

        Returns:
            Shape of `moments.mean`.
        """


@dataclass(frozen=True)
class PoissonChannel(Channel):
    r"""Counts that arrive, equation (1); the target is at least 0.

    `draw_target` draws Gamma variables around a log-normal common factor, :math:`\ln g = \ln D + \epsilon z -
    |\epsilon|^2 / 2` and :math:`x \sim \mathrm{Gamma}` of mean g, so that mean and variance are the given ones, and
    the covariance is to first order in :math:`U / D`.
    """

    name: ClassVar[str] = "poisson"

    def draw_increments(self, x: Tensor, h: Tensor | float, generator: Generator) -> Tensor:
        return torch.poisson(h * x.clamp_min(0), generator=generator)

    def noise_variance(self, x: Tensor) -> Tensor:
        return x.clamp_min(0)

    def draw_target(self, moments: Moments, generator: Generator, subjects: Tensor | None = None) -> Tensor:
        mean = moments.mean.clamp_min(_SMALLEST)
        own, g, square = moments.own, mean, mean.square()
        if own is None:
            _ = moments.variance  # raises
        assert own is not None
        if moments.factors is not None:
            common = moments.factors.square().sum(1)
            epsilon = moments.factors / common.clamp_min(_SMALLEST).sqrt()[:, None]  # rows of length 1
            epsilon = epsilon * torch.log1p(common / square).sqrt()[:, None]
            z = _shared_normal(moments.factors, generator, subjects)
            g = mean * torch.exp((epsilon * z).sum(1) - epsilon.square().sum(1) / 2)
            square = square + common
        if not own.count_nonzero():  # everything is in the factors
            return g
        shape = (square / own.clamp_min(_SMALLEST)).clamp_max(_LARGEST_SHAPE)
        return g * torch._standard_gamma(shape, generator=generator) / shape


@dataclass(frozen=True)
class BrownianChannel(Channel):
    """Gaussian increments, equation (2): a Brownian bridge from the baseline, equation (3).

    Arguments:
        s: Standard deviation of an increment of unit length, in units of the target.

    Raises:
        InfieldError: It is not above 0.
    """

    s: float
    name: ClassVar[str] = "brownian"

    def __post_init__(self) -> None:
        if not 0 < self.s < math.inf:
            raise InfieldError(where="Brownian bridge: s", found=f"{self.s!r}", expected="a number above 0")

    def draw_increments(self, x: Tensor, h: Tensor | float, generator: Generator) -> Tensor:
        h = torch.as_tensor(h, dtype=x.dtype, device=x.device)
        return h * x + self.s * h.sqrt() * _normal(x, generator)

    def noise_variance(self, x: Tensor) -> Tensor:
        return torch.full_like(x, self.s**2)

    def draw_target(self, moments: Moments, generator: Generator, subjects: Tensor | None = None) -> Tensor:
        own = moments.own
        if own is None:
            _ = moments.variance  # raises
        assert own is not None
        x = moments.mean + own.sqrt() * _normal(moments.mean, generator)
        if moments.factors is not None:
            x = x + (moments.factors * _shared_normal(moments.factors, generator, subjects)).sum(1)
        return x

    def point_on_bridge(self, state: Tensor, tau: float, x_b: Tensor) -> Tensor:
        """x_t of equation (3) at t = tau / (1 + tau), from the state B_tau and the baseline; all of one shape."""
        return (x_b + state) / (1 + tau)


_SMALLEST = 1e-12
"""Of means and variances, where one is divided by."""

_LARGEST_SHAPE = 1e12
"""Of a Gamma variable: beyond it, it is its mean."""


def _normal(like: Tensor, generator: Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=like.device)


def _shared_normal(factors: Tensor, generator: Generator, subjects: Tensor | None) -> Tensor:
    """Standard normal numbers of the factors, `(batch, rank, 1, ...)`, the same where the subject is."""
    batch, rank = factors.shape[:2]
    row = torch.arange(batch, device=factors.device)
    if subjects is not None:
        if subjects.shape != (batch,):
            raise InfieldError(
                where="bridge: subjects", found=f"shape {tuple(subjects.shape)}", expected=f"one for each of {batch}"
            )
        row = torch.unique(subjects, return_inverse=True)[1]
    z = torch.randn((int(row.max()) + 1, rank), generator=generator, dtype=factors.dtype, device=factors.device)
    return z[row].reshape(batch, rank, *[1] * (factors.ndim - 2))
