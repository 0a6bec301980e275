"""Multi-coil magnetic resonance imaging with known coil sensitivities."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from infield import import_torchvision_first
from infield.physics.description import OperatorDescription
from infield.physics.grid import Grid
from infield.physics.least_squares import LeastSquares
from infield.physics.linear_operator import ComplexBuffers, index_grid, plain_physics

import_torchvision_first()
from deepinv.physics import MultiCoilMRI as DeepinvMultiCoilMRI  # noqa: E402


class MultiCoilMRI(ComplexBuffers, LeastSquares, DeepinvMultiCoilMRI):
    r"""deepinv's operator, y_n = P F (s_n x) for each coil n, with centred orthonormal F.

    The field is a complex image, `(batch, 2, H, W)`; data are `(batch, 2, N, H, W)`, zero where not sampled.

    With c = n // 2 the centred transform of an axis is exp(-2 pi i (k - c)(x - c) / n): an ordinary one between two
    phases, which are multiplied into the coil maps and the samples. So no array is shifted, for odd sizes as for even
    ones; deepinv's own methods shift every coil image four times.

    Arguments:
        grid: Where the image lives, two axes.
        coil_maps: Sensitivities, complex128, shape `(N, H, W)`.
        mask: Bool, shape `(H, W)`: which k-space samples are measured, frequency zero at `n // 2`.
    """

    name: ClassVar[str] = "multicoil-mri"
    observed: Tensor
    image_side: Tensor
    kspace_side: Tensor
    sampled: Tensor

    def __init__(self, grid: Grid, coil_maps: Tensor, mask: Tensor) -> None:
        size = (2, *grid.shape)
        super().__init__(mask=mask.to(torch.float64), coil_maps=coil_maps, img_size=size, **plain_physics())
        self.grid = grid
        self.channels = 2
        self.data_shape = (2, *coil_maps.shape)
        self.data_grid = index_grid(self.data_shape[1:])
        self.register_buffer("observed", mask.expand(self.data_shape).clone())
        rows, columns = (_centring_phase(n) for n in grid.shape)
        phase = rows[:, None] * columns
        self.register_buffer("image_side", phase * coil_maps)
        self.register_buffer("sampled", mask.flatten().nonzero()[:, 0])
        self.register_buffer("kspace_side", (phase * _constant_phase(grid.shape))[mask])

    def A(self, x: Tensor) -> Tensor:
        image = torch.complex(x[:, 0], x[:, 1])[:, None]
        kspace = torch.fft.fft2(self.image_side * image, norm="ortho").flatten(2)
        samples = torch.view_as_real(kspace[..., self.sampled] * self.kspace_side).movedim(-1, 1)
        y = x.new_zeros((len(x), *self.data_shape)).flatten(3)
        return y.index_copy_(3, self.sampled, samples).unflatten(3, self.data_shape[2:])

    def A_adjoint(self, y: Tensor) -> Tensor:
        samples = y.flatten(3)[..., self.sampled]
        kspace = self.image_side.new_zeros((len(y), *self.data_shape[1:])).flatten(2)
        kspace[..., self.sampled] = torch.complex(samples[:, 0], samples[:, 1]) * self.kspace_side.conj()
        images = torch.fft.ifft2(kspace.unflatten(2, self.data_shape[2:]), norm="ortho")
        return torch.view_as_real((images * self.image_side.conj()).sum(1)).movedim(-1, 1)


def _centring_phase(n: int) -> Tensor:
    """exp(2 pi i c x / n) for x = 0 ... n - 1, c = n // 2."""
    angle = 2 * math.pi * (n // 2) / n * torch.arange(n, dtype=torch.float64)
    return torch.polar(torch.ones_like(angle), angle)


def _constant_phase(shape: tuple[int, ...]) -> Tensor:
    """The product over the axes of exp(-2 pi i c^2 / n)."""
    angle = torch.tensor(-2 * math.pi * sum((n // 2) ** 2 / n for n in shape), dtype=torch.float64)
    return torch.polar(torch.ones_like(angle), angle)


def build_multicoil_mri(description: OperatorDescription) -> MultiCoilMRI:
    description.expect(arrays=("coil_maps", "mask"))
    grid = description.regular_grid()
    if grid.ndim != 2 or description.channels != 2:
        found = f"{description.channels} channels on {grid.ndim} axes"
        raise description.error(f"found a field of {found}, expected 2 channels (real, imaginary) on 2 axes")
    maps = description.array("coil_maps")
    if maps.ndim != 3 or maps.shape[1:] != grid.shape or len(maps) == 0:
        raise description.error(
            f"found coil_maps of shape {maps.shape}, expected (coils, {grid.shape[0]}, {grid.shape[1]})"
        )
    return MultiCoilMRI(grid, torch.from_numpy(maps.astype("complex128")), description.mask(grid.shape))
