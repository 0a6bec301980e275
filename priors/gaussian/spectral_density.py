r"""The spectrum of a stationary field as a density over wavenumber: given on one periodic box, evaluated on another.

The orthonormal Fourier modes of a stationary field have variances that depend on the spacing of the grid and on the
wavenumber, not on the size of the box (sums over many cells go over into S(k) / cell). So the spectrum of a short box
applies to a longer one at the same wavenumbers, and between them it is interpolated: the logarithm, multilinearly in
|k| of each axis. The law is taken to be the same when any one axis is mirrored, as that of a channel is, which averages
the modes of all signs.

*Below the first wavenumbers.* Where all |k_i| are below the first one of the short box, r = max_i |k_i| / (first one)
is below 1, and there are the boundary r = 1 and perhaps the mode 0. Along a ray from k = 0 the logarithm goes from the
one to the other as r^2, since a density is even. Where the mean of each training field was removed, the mode 0 carries
no information, and the density is constant along the ray: it may depend on direction, as that of wall pressure does,
and is finite at 0, as that of a field with an integrable correlation is. The modes k_i = 0 of a short box are data like
any other. On the synthetic wall pressure of `priors.wall_pressure.synthetic`, boxes of 4 pi half heights, the rule errs
by at most 0.3 dB in any octave of boxes of 16 pi, at Re_tau 180, 500 and 1000.

*The mean.* On other periodic boxes a removed mean stays removed. A box that is a part of a larger domain has a mean:
there the mode 0 gets the mean of the densities at the first wavenumber of each axis.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

REMOVED = 1e-3
"""Share of the variances of its neighbours below which the mode 0 counts as removed."""


def fold(variance: Tensor) -> Tensor:
    """Variances over |k|, `(channel, n_1 // 2 + 1, ...)`: means over the signs of those over k, `(channel, *space)`."""
    for axis in range(1, variance.ndim):
        n = variance.shape[axis]
        half = torch.arange(n // 2 + 1, device=variance.device)
        variance = (variance.index_select(axis, half) + variance.index_select(axis, (n - half) % n)) / 2
    return variance


def unfold(folded: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Variances over k, shape `(channel, *shape)`, from those over |k|."""
    for axis, n in enumerate(shape, start=1):
        k = torch.arange(n, device=folded.device)
        folded = folded.index_select(axis, torch.minimum(k, n - k))
    return folded


@dataclass(frozen=True)
class SpectralDensity:
    """The variances of Fourier modes on one box, as a function of wavenumber.

    Arguments:
        variance: Variances > 0 of the orthonormal modes of the box, in the order of `torch.fft.fftn`, shape
            `(channel, *space)`.
    """

    variance: Tensor

    @cached_property
    def removed(self) -> bool:
        """Whether the mode 0 has no variance, because the mean of each field was removed."""
        return bool((self.variance[self._zero] < REMOVED * self._rim).any())

    @property
    def _zero(self) -> tuple[Any, ...]:
        return (slice(None), *[0] * (self.variance.ndim - 1))

    @property
    def _rim(self) -> Tensor:
        """Mean variance at the first wavenumber of each axis, shape `(channel,)`."""
        ndim = self.variance.ndim - 1
        long = [axis for axis in range(ndim) if self.variance.shape[axis + 1] > 1]
        first: list[tuple[Any, ...]] = [(slice(None), *(int(axis == a) for a in range(ndim))) for axis in long]
        return torch.stack([self._folded[place] for place in first]).mean(0)

    @cached_property
    def _folded(self) -> Tensor:
        return fold(self.variance)

    def on(self, shape: tuple[int, ...], *, whole: bool = True) -> Tensor:
        """Variances of the modes of another box of the same spacings, shape `(channel, *shape)`.

        Arguments:
            shape: Points of the box along each axis.
            whole: Whether the box is the domain, and not a part of a larger one that is seen for itself.
        """
        table = self._folded.log()
        places, corners = [], []
        for axis, (n, m) in enumerate(zip(self.variance.shape[1:], shape, strict=True)):
            index = torch.arange(m, device=table.device)
            wave = torch.minimum(index, m - index) * (n / m)  # |k| in first wavenumbers of the box that is known
            places.append(wave.to(table.dtype).reshape([-1 if a == axis else 1 for a in range(len(shape))]))
        radius = torch.stack(torch.broadcast_tensors(*places)).amax(0)
        stretch = torch.where((radius > 0) & (radius < 1), 1 / radius.clamp_min(1e-300), torch.ones_like(radius))
        for waves, n in zip(places, table.shape[1:], strict=True):
            wanted = (waves * stretch).clamp_max(n - 1)
            lower = wanted.floor().long().clamp_max(max(n - 2, 0))
            corners.append((lower, (lower + 1).clamp_max(n - 1), wanted - lower))
        log = torch.zeros((len(table), *shape), dtype=table.dtype, device=table.device)
        for upper in itertools.product((False, True), repeat=len(shape)):
            corner = (high if up else low for up, (low, high, _) in zip(upper, corners, strict=True))
            place: tuple[Any, ...] = (slice(None), *corner)
            weight = torch.ones_like(radius)
            for up, (_, _, share) in zip(upper, corners, strict=True):
                weight = weight * (share if up else 1 - share)
            log += torch.where(weight > 0, weight * table[place], 0.0)
        if not self.removed:
            at_zero = table[self._zero].reshape(-1, *[1] * len(shape))
            log = torch.where(radius < 1, at_zero + radius.square() * (log - at_zero), log)
        variance = log.exp()
        if self.removed:
            variance[self._zero] = self.variance[self._zero] if whole else self._rim
        return variance
