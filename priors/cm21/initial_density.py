r"""Initial density of a simulation: a Gaussian field in a periodic box, and its features for the network.

Initial conditions are a Gaussian field :math:`\delta` with a spectrum of k alone, here as it would be today if it had
grown linearly. Its amplitudes are measured on the boxes of simulations, so that no cosmology is needed:
:math:`a(k)^2 = E|\delta_k|^2` at knots of log k, a line between them, with Fourier transforms that keep the norm. So
a(k) is the same for boxes of other sizes with the same spacing. Waves longer than those of the measured boxes have the
amplitude of the longest ones: the spectrum of matter has its maximum near there.

The input of the network (`priors.cm21.density_network`) is, for each cell of 2 x 2 x 2 points of a lightcone,

* :math:`\delta` on its own finer grid,
* the displacement :math:`\Psi = -\nabla \nabla^{-2} \delta` (Zel'dovich 1970), by which matter has moved, on points,
* means of :math:`\delta` over balls of some radii, which decide what is ionised (Furlanetto et al. 2004,
  arXiv:astro-ph/0403697; Mesinger et al. 2011, arXiv:1003.3878), on cells,

each divided by its standard deviation. Boxes have the line of sight first: `(los, x, y)`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch
from einops import rearrange
from torch import Generator, Tensor

from infield.core.errors import InfieldError
from infield.core.spectra import Bins, mode_counts, wave_axes, wavenumbers
from infield.priors.cm21.density_network import UNSHUFFLE

RADII = (2.5, 4.0, 6.5, 10.0)
"""Radii of the balls, in points of a lightcone."""

KNOTS = 24


@dataclass(frozen=True)
class InitialDensity:
    """Distribution of the boxes, and their features.

    Arguments:
        log_k: Knots, in radians per cell of the box, shape `(KNOTS,)`.
        log_a: Logarithms of the amplitudes at them.
        finer: Cells of the box per point of a lightcone, along each axis.
        points: Points of the training lightcones along each axis of the box.
    """

    log_k: Tensor
    log_a: Tensor
    finer: int
    points: int

    @classmethod
    def fit(cls, boxes: Tensor, points: int) -> InitialDensity:
        """From boxes of simulations, shape `(boxes, n, n, n)`.

        Arguments:
            boxes: Linear density contrast.
            points: Points of a lightcone across a box.

        Raises:
            InfieldError: Boxes are no cubes, their cells do not divide points, or nothing varies.
        """
        n = boxes.shape[-1]
        if len(set(boxes.shape[1:])) > 1 or n % points:
            found = " x ".join(map(str, boxes.shape[1:]))
            raise InfieldError(
                where="initial density", found=f"boxes of {found} cells", expected=f"cubes of a multiple of {points}"
            )
        k, both = wavenumbers((n, n, n), half=True, radians=True), mode_counts(n).expand(n, n, -1)
        power = torch.zeros(k.shape, dtype=torch.float64)
        for box in boxes:
            power += torch.fft.rfftn(box.double(), norm="ortho").abs().square()
        edges = k.max() * n ** (torch.arange(-KNOTS, 2, dtype=torch.float64) / KNOTS)
        shells = Bins.between(k, edges).without_empty()
        log_k = shells.mean(k.clamp_min(1e-9).log(), weights=both)
        mean = shells.mean(power, weights=both) / len(boxes)
        if not bool((mean > 0).all()):
            raise InfieldError(
                where="initial density", found="waves without any power", expected="boxes of a simulation"
            )
        return cls(log_k.float(), (mean.log() / 2).float(), n // points, points)

    @property
    def seen(self) -> int:
        """Features per cell."""
        return (UNSHUFFLE * self.finer) ** 3 + 3 * UNSHUFFLE**3 + len(RADII)

    def draw(self, points: tuple[int, int], generator: Generator) -> Tensor:
        """A box for lightcones of given points across, shape `(los, x, y)`, in standard deviations; along the line
        of sight it is as long as along x."""
        shape = (self.finer * points[0], self.finer * points[0], self.finer * points[1])
        modes = torch.fft.rfftn(torch.randn(shape, generator=generator), norm="ortho")
        amplitudes = self._amplitudes(shape) / self.deviation
        return torch.fft.irfftn(modes * amplitudes.float(), s=shape, norm="ortho")

    def standardised(self, boxes: Tensor) -> Tensor:
        """Boxes of simulations as `draw` has them."""
        return boxes / self.deviation

    def view(self, boxes: Tensor) -> Tensor:
        """Features of boxes in standard deviations, `(batch, los, x, y)`: shape
        `(batch, los / c, x / c, y / c, seen)`, c the cells of a box along a cell of the network."""
        shape = tuple(n // self.finer for n in boxes.shape[1:])
        modes = _carried(torch.fft.rfftn(boxes, dim=(1, 2, 3), norm="forward"), shape)
        filtered = torch.fft.irfftn(modes[:, None] * _filters(shape), s=shape, dim=(2, 3, 4), norm="forward")
        filtered = filtered / self._deviations.to(filtered)[:, None, None, None]
        moved, balls = filtered[:, :3], filtered[:, 3:]
        return torch.cat([
            _fold(boxes[:, None], UNSHUFFLE * self.finer), _fold(moved, UNSHUFFLE), _fold(balls, UNSHUFFLE, mean=True)
        ], dim=-1)  # fmt: skip

    @cached_property
    def deviation(self) -> float:
        """Standard deviation of boxes of simulations."""
        n = self.finer * self.points
        return float((self._amplitudes((n, n, n)).square() * mode_counts(n)).sum().div(n**3).sqrt())

    @cached_property
    def _deviations(self) -> Tensor:
        """Standard deviations of what filters make of boxes in standard deviations."""
        n, m = self.points, self.points * self.finer
        a = _carried(self._amplitudes((m, m, m))[None] / self.deviation, (n, n, n))[0]
        return ((_filters((n, n, n)).abs() * a).square() * mode_counts(n)).sum((1, 2, 3)).div(m**3).sqrt()

    def _amplitudes(self, shape: tuple[int, ...]) -> Tensor:
        """Amplitudes of the modes of simulated boxes; that of k = 0 is 0."""
        k = wavenumbers(shape, half=True, radians=True)
        log_amplitude = np.interp(k.clamp_min(1e-9).log().numpy(), self.log_k.numpy(), self.log_a.numpy())
        return torch.where(k > 0, torch.from_numpy(log_amplitude).exp(), 0.0)


@lru_cache(maxsize=8)
def _filters(shape: tuple[int, ...]) -> Tensor:
    """Three of the displacement and one for each ball, of the modes of a lightcone's points, complex64; 0 for the
    shortest waves, which have no direction on a grid."""
    k = wavenumbers(shape, half=True, radians=True)
    axes = torch.broadcast_tensors(*wave_axes(shape, half=True, radians=True))
    whole = torch.stack([axis.abs() < math.pi - 1e-9 for axis in axes]).all(0)
    moved = [1j * axis / k.square().clamp_min(1e-9) for axis in axes]
    balls = []
    for radius in RADII:
        x = (radius * k).clamp_min(1e-4)
        balls.append((3 * (x.sin() - x * x.cos()) / x**3).to(moved[0]))
    return (torch.stack([*moved, *balls]) * whole).to(torch.complex64)


def _carried(modes: Tensor, shape: tuple[int, ...]) -> Tensor:
    """The modes of half-spectra `(batch, los, x, y)` that a coarser grid carries."""
    for axis, n in enumerate(shape[:2], start=1):
        m = modes.shape[axis]
        modes = torch.cat([modes.narrow(axis, 0, n - n // 2), modes.narrow(axis, m - n // 2, n // 2)], dim=axis)
    return modes[..., : shape[2] // 2 + 1]


def _fold(x: Tensor, side: int, *, mean: bool = False) -> Tensor:
    """The points of each cell of so many along each axis as channels, which are last; or their mean."""
    parts = rearrange(x, "b c (los i) (x j) (y k) -> b los x y c i j k", i=side, j=side, k=side)
    return parts.mean((-3, -2, -1)) if mean else parts.flatten(4)
