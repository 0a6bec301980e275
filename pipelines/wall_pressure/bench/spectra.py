r"""Spectral errors of wall-pressure planes, octave by octave, against the exact spectrum of the law that truths are of.

Octaves begin at the first wavenumber of the domain: modes 1, 2-3, 4-7, ..., the last one with what is left below
Nyquist. A few draws of a long domain hold few of its longest waves (a dozen independent modes each), and their energy
scatters by decibels. Hence the common random numbers: a method's draws are compared with draws of the exact Gaussian
posterior that were made from the same random numbers, and whose mean energy is known, as the law's own. That takes out
of the comparison what both share by chance, and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from infield.core.grid import Grid
from infield.posterior.wall_pressure.wall_statistics import WallSpectrum, octave_bands, spectral_error_db, wall_spectrum

LOWEST_DB = -40.0
"""What is printed of a band without energy."""


@dataclass(frozen=True)
class Octaves:
    """A periodic grid of axes (z, x) and the exact variances of its modes.

    Arguments:
        grid: Axes (z, x).
        variances: Of the orthonormal Fourier modes, shape of the grid.
    """

    grid: Grid
    variances: Tensor

    @property
    def axes(self) -> Mapping[str, int]:
        """Number of each axis."""
        return {name: i for i, name in enumerate(self.grid.names)}

    def edges(self, axis: int) -> Tensor:
        """Edges of the octaves along an axis, in wavenumbers."""
        n, spacing = self.grid.shape[axis], self.grid.spacing[axis]
        edges = octave_bands(2 * math.pi / (n * spacing), math.pi / spacing)
        edges[-1] *= 1 + 1e-9  # with the mode of Nyquist
        return edges

    def exact(self, axis: int, variances: Tensor | None = None) -> WallSpectrum:
        """The spectrum of the law, or of other variances, `(modes,)`."""
        n, spacing = self.grid.shape[axis], self.grid.spacing[axis]
        empty = wall_spectrum(torch.zeros((1, 1, n), dtype=torch.float64), spacing, 1)
        both_signs = (self.variances if variances is None else variances).mean(1 - axis)[: n // 2 + 1] / n
        single = empty.width < empty.width[1]
        return WallSpectrum(empty.wavenumber, torch.where(single, 1.0, 2.0) * both_signs / empty.width, empty.width)

    def errors(self, planes: Tensor, paired: Tensor | None = None) -> dict[str, Tensor]:
        """dB by axis, each of shape `(octaves,)`.

        Arguments:
            planes: Shape `(draws, z, x)`.
            paired: Draws whose mean energy is the law's, from the same random numbers; None to take that energy itself.
        """
        found = {}
        for name, axis in self.axes.items():
            spacing, edges = self.grid.spacing[axis], self.edges(axis)
            reference = self.exact(axis) if paired is None else wall_spectrum(paired, spacing, axis)
            error = spectral_error_db(wall_spectrum(planes, spacing, axis), reference, edges)
            found[name] = error.clamp_min(LOWEST_DB)
        return found

    def against(self, variances: Tensor) -> dict[str, Tensor]:
        """What is `errors` of draws of another law, in dB by axis."""
        return {
            name: spectral_error_db(self.exact(axis, variances), self.exact(axis), self.edges(axis))
            for name, axis in self.axes.items()
        }


def finer(planes: Tensor, shape: tuple[int, int]) -> Tensor:
    """Periodic planes `(batch, z, x)` on more points of the same domain, by their Fourier series."""
    spectrum = torch.fft.fft2(planes, norm="forward")
    padded = torch.zeros((len(planes), *shape), dtype=spectrum.dtype)
    rows, columns = (torch.fft.fftfreq(n, 1 / n).round().long() for n in planes.shape[1:])
    padded[:, (rows % shape[0])[:, None], columns % shape[1]] = spectrum
    return torch.fft.ifft2(padded, norm="forward").real
