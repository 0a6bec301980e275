"""Convolution of a field with a kernel, the point spread function of an instrument."""

from __future__ import annotations

import math
from functools import reduce
from typing import Any, Literal, get_args

import numpy as np
import torch
from torch import Tensor

from infield.core.grid import Axis, Grid
from infield.physics.operators.base import LinearOperator
from infield.physics.operators.description import OperatorDescription

Boundary = Literal["periodic", "zero"]

INVISIBLE = 1e-6
"""Modes whose transfer is below this fraction of the maximum count as unobserved in the pseudo-inverse."""


class Convolution(LinearOperator):
    r"""The field convolved with one kernel, :math:`y_i = \sum_j k_j x_{i - (j - c)}`, by FFT, channel by channel.

    The kernel's centre c is its middle element, `size // 2` along each axis. The data have the field's shape.

    Arguments:
        grid: Grid of the field, with uniform axes.
        channels: Number of channels.
        kernel: Real kernel with one axis per space axis.
        boundary: Extension beyond the boundary: "periodic" or "zero".
    """

    name = "convolution"
    transfer: Tensor

    def __init__(self, grid: Grid, channels: int, kernel: Tensor, boundary: Boundary = "periodic") -> None:
        super().__init__(grid, channels, (channels, *grid.shape), grid)
        spread = kernel.shape if boundary == "zero" else (1,) * grid.ndim
        # far enough apart that what leaves one edge does not enter at the other
        self.period = tuple(n + k - 1 for n, k in zip(grid.shape, spread, strict=True))
        self.axes = tuple(range(-grid.ndim, 0))
        centred = torch.zeros(self.period, dtype=torch.float64)
        centred[tuple(slice(k) for k in kernel.shape)] = kernel.to(torch.float64)
        centred = centred.roll([-(k // 2) for k in kernel.shape], self.axes)
        self.register_buffer("transfer", torch.fft.rfftn(centred, dim=self.axes))

    def _filter(self, x: Tensor, transfer: Tensor) -> Tensor:
        y = torch.fft.irfftn(torch.fft.rfftn(x, self.period, self.axes) * transfer, self.period, self.axes)
        return y[(..., *(slice(n) for n in self.grid.shape))]

    def A(self, x: Tensor) -> Tensor:
        return self._filter(x, self.transfer)

    def A_adjoint(self, y: Tensor) -> Tensor:
        return self._filter(y, self.transfer.conj())

    def perturbations(self, x: Tensor) -> dict[str, Tensor]:
        """Change of the data `(1, *data)` of a field `(1, channel, *space)` by a relative error of the kernel's width.

        With transfer H(k) and variance s^2 of the kernel, by its lowest wavenumber, dH / d log s = -k^2 s^2 H, which is
        exact for Gaussian kernels.
        """
        assert isinstance(self.grid, Grid)
        squared, low = torch.zeros(1, dtype=torch.float64), []
        for axis, (n, one) in enumerate(zip(self.period, self.grid.axes, strict=True)):
            last = axis == len(self.period) - 1
            k = 2 * torch.pi / one.spacing * (torch.fft.rfftfreq(n) if last else torch.fft.fftfreq(n)).to(torch.float64)
            squared = squared[..., None] + k.square()
            if n > 1:
                low.append(tuple(int(d == axis) for d in range(len(self.period))))
        squared = squared[0]
        ratios = [-2 * (self.transfer[i] / self.transfer.flatten()[0]).abs().log() / squared[i] for i in low]
        variance = torch.stack(ratios).mean() if ratios else squared.new_zeros(())
        if not bool(variance > 0):  # it does not blur
            return {}
        return {"the width of the blur": self._filter(x, -variance * squared * self.transfer)}

    @property
    def direct(self) -> bool:
        return self.period == self.grid.shape

    def A_dagger(self, y: Tensor, **settings: Any) -> Tensor:
        if not self.direct:  # a boundary of zeros
            return super().A_dagger(y, **settings)
        power = self.transfer.abs().square()
        seen = power > INVISIBLE**2 * power.max()
        return self._filter(y, torch.where(seen, self.transfer.conj() / power.clamp_min(power.max() * INVISIBLE**2), 0))

    def prox_l2(self, z: Tensor, y: Tensor, gamma: float, **settings: Any) -> Tensor:
        if not self.direct:
            return super().prox_l2(z, y, gamma, **settings)
        inverse = self.transfer.conj() / (self.transfer.abs().square() + 1 / gamma)
        return z + self._filter(y - self.A(z), inverse)

    def prox_stationary(self, z: Tensor, y: Tensor, power: Tensor, noise: float, **settings: Any) -> Tensor:
        if not self.direct:
            return super().prox_stationary(z, y, power, noise, **settings)
        c = power[..., : self.grid.shape[-1] // 2 + 1].to(z)
        inverse = c * self.transfer.conj() / (c * self.transfer.abs().square() + noise**2)
        return z + self._filter(y - self.A(z), inverse)


def gaussian_kernel(grid: Grid, widths: tuple[float, ...], boundary: Boundary) -> Tensor:
    """A Gaussian that sums to one, as far as it reaches inside the domain.

    Arguments:
        grid: Grid of the field.
        widths: Standard deviation along each axis, in the units of the axis.
        boundary: With "periodic" the kernel is wrapped, the sum over all periodic images; with "zero" it
            reaches 10 standard deviations, or the size of the domain if that is less.

    Returns:
        The kernel, float64, its centre at `size // 2` along each axis.
    """

    def along(axis: Axis, width: float) -> Tensor:
        n, reach = axis.size, math.ceil(10 * width / axis.spacing)
        if boundary == "periodic":
            images = n * torch.arange(-(reach // n + 1), reach // n + 2)[:, None]
            steps = torch.arange(n) - n // 2 + images
            profile = torch.exp(-0.5 * (steps.to(torch.float64) * axis.spacing / width) ** 2).sum(0)
            return profile / profile.sum()
        steps = torch.arange(-reach, reach + 1)
        profile = torch.exp(-0.5 * (steps.to(torch.float64) * axis.spacing / width) ** 2)
        # summed before it is cut: what a wide kernel would draw from outside the domain is lost, not made up
        return (profile / profile.sum())[steps.abs() < n]

    profiles = [along(axis, width) for axis, width in zip(grid.axes, widths, strict=True)]
    return reduce(lambda a, b: a[..., None] * b, profiles)


def build_convolution(description: OperatorDescription) -> Convolution:
    description.expect(parameters=("gaussian_width", "boundary"), arrays=("kernel",))
    grid = description.regular_grid()
    for axis in grid.axes:
        if not axis.uniform:
            raise description.error(found=axis.spacings, expected="even ones")
    boundary = description.parameters.get("boundary", "periodic")
    if boundary not in get_args(Boundary):
        raise description.error(found=f"boundary {boundary!r}", expected=f"one of {', '.join(get_args(Boundary))}")
    width = description.parameters.get("gaussian_width")
    if (width is None) == ("kernel" not in description.arrays):
        raise description.error(
            found="neither" if width is None else "both",
            expected="an array 'kernel' or the parameter 'gaussian_width'",
        )
    kernel = _given_kernel(description, grid) if width is None else _gaussian(description, grid, width, boundary)
    return Convolution(grid, description.channels, kernel, boundary)


def _given_kernel(description: OperatorDescription, grid: Grid) -> Tensor:
    kernel = description.array("kernel")
    if kernel.ndim != grid.ndim or any(k > n or k == 0 for k, n in zip(kernel.shape, grid.shape, strict=True)):
        raise description.error(found=f"a kernel of shape {kernel.shape}", expected=f"at most {grid.shape}")
    if kernel.dtype.kind == "c":
        raise description.error(found="a complex kernel", expected="a real one")
    return torch.from_numpy(kernel.astype(np.float64))


def _gaussian(description: OperatorDescription, grid: Grid, width: Any, boundary: Boundary) -> Tensor:
    widths = width if isinstance(width, list | tuple) else [width] * grid.ndim
    if len(widths) != grid.ndim:
        raise description.error(found=f"{len(widths)} gaussian_width", expected=f"one or {grid.ndim}")
    widths = [description.positive("gaussian_width", w) for w in widths]
    for axis, length, w in zip(grid.axes, grid.lengths, widths, strict=True):
        if w > 10 * length:  # its sum, taken over 10 widths, would fill the memory
            raise description.error(
                found=f"gaussian_width {w}", expected=f"at most {10 * length} along axis '{axis.name}'"
            )
    return gaussian_kernel(grid, tuple(widths), boundary)
