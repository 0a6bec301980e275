"""Fourier sampling: some of the coefficients of a field, as interferometers and single-coil scanners measure them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from infield.core.grid import Grid
from infield.physics.operators.base import LinearOperator
from infield.physics.operators.description import OperatorDescription


class FourierSampling(LinearOperator):
    """Sampled coefficients of the centred orthonormal transform, fftshift(fft(ifftshift(x))), zero elsewhere.

    Data are `(batch, 2, *k)`, real and imaginary part; frequency zero lies at `n // 2` along each axis. A field of two
    channels is complex; a field of one channel is real, and the adjoint then keeps the real part.

    Arguments:
        grid: Grid of the field.
        channels: 1 (real field) or 2 (complex field).
        mask: Bool, shape of the grid: which coefficients are sampled.
    """

    name = "fourier"
    observed: Tensor

    def __init__(self, grid: Grid, channels: int, mask: Tensor) -> None:
        shape = (2, *grid.shape)
        super().__init__(grid, channels, shape, observed=mask.expand(shape).clone())
        self.axes = tuple(range(-grid.ndim, 0))
        self.row_power = 1.0 if channels == 2 else None  # of a real field a coefficient and its mirror image are one

    def A(self, x: Tensor) -> Tensor:
        field = torch.complex(x[:, 0], x[:, 1] if self.channels == 2 else torch.zeros_like(x[:, 0]))
        centred = torch.fft.ifftshift(field, self.axes)
        k = torch.fft.fftshift(torch.fft.fftn(centred, dim=self.axes, norm="ortho"), self.axes)
        return self._sampled(torch.stack([k.real, k.imag], dim=1))

    def A_adjoint(self, y: Tensor) -> Tensor:
        y = self._sampled(y)
        k = torch.fft.ifftshift(torch.complex(y[:, 0], y[:, 1]), self.axes)
        field = torch.fft.fftshift(torch.fft.ifftn(k, dim=self.axes, norm="ortho"), self.axes)
        return torch.stack([field.real, field.imag][: self.channels], dim=1)

    def prox_stationary(self, z: Tensor, y: Tensor, power: Tensor, noise: float, **settings: Any) -> Tensor:
        """As `LeastSquaresMixin.prox_stationary`, in closed form for a complex field."""
        if self.channels == 1:
            return super().prox_stationary(z, y, power, noise, **settings)
        c = torch.fft.fftshift(power.to(z), self.axes)
        return z + self.A_adjoint(c / (c + noise**2) * (y - self.A(z)))

    def _sampled(self, y: Tensor) -> Tensor:
        return torch.where(self.observed, y, torch.zeros_like(y))


def build_fourier(description: OperatorDescription) -> FourierSampling:
    description.expect(arrays=("mask",))
    grid = description.regular_grid()
    if description.channels not in (1, 2):
        raise description.error(found=f"{description.channels} channels", expected="1 (real) or 2 (complex)")
    return FourierSampling(grid, description.channels, description.mask(grid.shape))
