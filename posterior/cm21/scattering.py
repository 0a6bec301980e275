r"""Wavelet scattering coefficients of images (Mallat 2012; Bruna & Mallat 2013), averaged over the image.

    S_1(j, t) = <|x * psi_{j,t}|>,    S_2(j, t, j', t') = <||x * psi_{j,t}| * psi_{j',t'}|>  for j' > j,

with Morlet wavelets of width 0.8 2^j and wavenumber 3 pi / 4 2^-j along the angle pi t / L, as elongated as L requires.
*Reduced*: S_1 is the mean over t, S_2 over t at fixed l = (t' - t) mod L, for fields without a direction; as Xia & Wise
(arXiv 2605.29016) sort them. Images are taken as periodic. kymatio, their library, cannot be imported beside scipy 1.17
(it requires `scipy.special.sph_harm`, which was removed), hence this module.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

WIDTH, WAVENUMBER = 0.8, 3 * math.pi / 4


@dataclass(frozen=True)
class Scattering:
    """The transform of images of one shape.

    Arguments:
        shape: Of an image in pixels.
        scales: J, octaves; 2^J at most the shorter side.
        angles: L.
    """

    shape: tuple[int, int]
    scales: int = 4
    angles: int = 4

    @cached_property
    def wavelets(self) -> Tensor:
        """Fourier transforms of the wavelets, real, shape `(J, L, *shape)`, float64."""
        rows, columns = (2 * math.pi * torch.fft.fftfreq(n, dtype=torch.float64) for n in self.shape)
        found = [
            torch.stack([self._morlet(rows, columns, j, t) for t in range(self.angles)]) for j in range(self.scales)
        ]
        return torch.stack(found)

    def _morlet(self, rows: Tensor, columns: Tensor, j: int, t: int) -> Tensor:
        """A Gaussian around the wavenumber, less one around 0 so that a constant gives 0; both made periodic."""
        sigma, xi, angle = WIDTH * 2**j, WAVENUMBER / 2**j, math.pi * t / self.angles
        slant = 4 / self.angles
        carrier = torch.zeros(self.shape, dtype=torch.float64)
        envelope = torch.zeros(self.shape, dtype=torch.float64)
        at_zero = [torch.zeros((), dtype=torch.float64) for _ in range(2)]
        for p in (-2, -1, 0, 1, 2):
            for q in (-2, -1, 0, 1, 2):
                a, b = rows[:, None] + 2 * math.pi * p, columns[None] + 2 * math.pi * q
                along = a * math.cos(angle) + b * math.sin(angle)
                across = -a * math.sin(angle) + b * math.cos(angle)
                for k, (image, centre) in enumerate(((carrier, xi), (envelope, 0.0))):
                    gauss = torch.exp(-0.5 * sigma**2 * ((along - centre) ** 2 + (across / slant) ** 2))
                    image += gauss
                    at_zero[k] = at_zero[k] + gauss[0, 0]
        return carrier - at_zero[0] / at_zero[1] * envelope

    def __call__(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Reduced coefficients in the units of the images.

        Arguments:
            images: Shape `(batch, *shape)`.

        Returns:
            S_1, shape `(batch, J)`, and S_2, shape `(batch, J (J - 1) / 2, L)`, pairs j < j' in the order of
            `pairs`.
        """
        wavelets = self.wavelets.to(images)
        spectrum = torch.fft.fft2(images)
        first, second = [], []
        for j in range(self.scales):
            u = torch.fft.ifft2(spectrum[:, None] * wavelets[j]).abs()  # batch, t, *shape
            first.append(u.mean((1, 2, 3)))
            inner = torch.fft.fft2(u)
            for k in range(j + 1, self.scales):
                s = torch.fft.ifft2(inner[:, :, None] * wavelets[k]).abs().mean((3, 4))  # batch, t, t'
                turned = [torch.diagonal(torch.roll(s, -l, 2), dim1=1, dim2=2).mean(1) for l in range(self.angles)]
                second.append(torch.stack(turned, dim=1))
        return torch.stack(first, dim=1), torch.stack(second, dim=1)

    @property
    def pairs(self) -> list[tuple[int, int]]:
        """The scales (j, j') of S_2."""
        return [(j, k) for j in range(self.scales) for k in range(j + 1, self.scales)]
