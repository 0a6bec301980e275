r"""What a 21 cm lightcone is judged by: global signal, exact zeros, voxel law, power spectra of chunks of redshift.

Cones are `(batch, x, y, los)` in mK. Power spectra are of chunks of the line of sight, periodic across and not along
it:

    P(k) = V <|T_k|^2>,    T_k = (1 / N) sum_x T(x) exp(-i k x),    Delta^2(k) = k^3 P(k) / (2 pi^2),

in mK^2 Mpc^3 and mK^2, with the mean of the chunk removed. (Kept libraries were weighed: powerbox changed its interface
at 1.0, and tools21cm and tuesday-eor bring simulators with them; three lines of FFT need neither.)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from infield.core.spectra import Bins, wave_axes, wavenumbers


def global_signal(cones: Tensor) -> Tensor:
    """Mean over the sky of each cell of the line of sight, mK, shape `(batch, los)`."""
    return cones.mean((1, 2))


def fully_ionised_fraction(cones: Tensor) -> Tensor:
    """Share of the voxels of each slice that are exactly 0: fully ionised. Shape `(batch, los)`."""
    return (cones == 0).to(cones.dtype).mean((1, 2))


def voxel_density(cones: Tensor, edges: Tensor) -> Tensor:
    """Density of the temperatures that are not exactly 0, share of all voxels per mK, shape `(batch, bins)`.

    Arguments:
        cones: In mK.
        edges: Of the bins in mK, ascending.
    """
    counts = []
    for cone in cones:
        values = cone[cone != 0].flatten()
        counts.append(torch.histogram(values.cpu(), edges.to(values.dtype).cpu()).hist)
    return torch.stack(counts) / (cones[0].numel() * edges.diff())


def chunks(depth: int, cells: int) -> list[slice]:
    """Stretches of so many cells from the lowest redshift on; what is left at the end is left out."""
    return [slice(i * cells, (i + 1) * cells) for i in range(depth // cells)]


@dataclass(frozen=True)
class SpectrumBins:
    """Modes of a chunk sorted into bins, for spectra of many cones.

    Arguments:
        shape: Of a chunk.
        spacing: In Mpc.
        taper: Whether a Hann window along the line of sight comes first, of mean square 1: a chunk is not periodic, and
            its jump would leak power of long waves into short ones. It mixes neighbouring modes.
        width: Of a bin in modes of the longest wave.
    """

    shape: tuple[int, int, int]
    spacing: tuple[float, float, float]
    taper: bool = True
    width: float = 1.0

    @property
    def fundamental(self) -> float:
        """Wavenumber of the longest wave, rad/Mpc."""
        return 2 * math.pi / max(n * d for n, d in zip(self.shape, self.spacing, strict=True))

    def power(self, chunk: Tensor) -> Tensor:
        """P of every mode, mK^2 Mpc^3, shape of `chunk`, `(batch, x, y, cells)`."""
        field = chunk - chunk.mean((1, 2, 3), keepdim=True)
        if self.taper:
            window = torch.hann_window(self.shape[2], periodic=True, dtype=chunk.dtype, device=chunk.device)
            field = field * (window / window.square().mean().sqrt())
        volume = math.prod(n * d for n, d in zip(self.shape, self.spacing, strict=True))
        return volume * torch.fft.fftn(field, dim=(1, 2, 3), norm="forward").abs().square()

    def spherical(self, power: Tensor) -> tuple[Tensor, Tensor]:
        """Wavenumbers `(bins,)` in rad/Mpc and Delta^2 `(batch, bins)` in mK^2, up to the least Nyquist wavenumber."""
        k = wavenumbers(self.shape, self.spacing, radians=True)
        bins = self._bins(k, self.shape, self.spacing)
        seen = (bins.modes > 0)[1:]  # the constant mode is left out
        return bins.mean(k)[1:][seen], bins.mean(k**3 / (2 * math.pi**2) * power)[:, 1:][:, seen]

    def cylindrical(self, power: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """k_perp `(bins,)` and k_par `(cells // 2,)` in rad/Mpc, without 0, and P `(batch, k_perp, k_par)`, mK^2
        Mpc^3."""
        across = wavenumbers(self.shape[:2], self.spacing[:2], radians=True)
        bins = self._bins(across, self.shape[:2], self.spacing[:2])
        seen, half = (bins.modes > 0)[1:], self.shape[2] // 2
        k_par = wave_axes(self.shape[2:], self.spacing[2:], radians=True)[0].abs()[1 : half + 1]
        both = (power + torch.roll(power.flip(-1), 1, -1)) / 2  # k_par and -k_par
        columns = bins.mean(both[..., 1 : half + 1].movedim(-1, 1)).movedim(1, -1)
        return bins.mean(across)[1:][seen], k_par, columns[:, 1:][:, seen]

    def _bins(self, k: Tensor, shape: Sequence[int], spacing: Sequence[float]) -> Bins:
        """Bins around 0, one step, ... up to the lowest Nyquist wavenumber of some of the axes."""
        step = self.width * 2 * math.pi / max(n * d for n, d in zip(shape, spacing, strict=True))
        return Bins.nearest(k, step, 1 + round(min(math.pi / d for d in spacing) / step))
