"""Multi-coil magnetic resonance imaging with known coil sensitivities."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor

from infield import import_torchvision_first
from infield.physics.description import OperatorDescription
from infield.physics.grid import Grid
from infield.physics.linear_operator import ComplexBuffers, index_grid, plain_physics

import_torchvision_first()
from deepinv.physics import MultiCoilMRI as DeepinvMultiCoilMRI  # noqa: E402


class MultiCoilMRI(ComplexBuffers, DeepinvMultiCoilMRI):
    r"""deepinv's operator, y_n = P F (s_n x) for each coil n, with centred orthonormal F.

    The field is a complex image, `(batch, 2, H, W)`; data are `(batch, 2, N, H, W)`, zero where not sampled.

    Arguments:
        grid: Where the image lives, two axes.
        coil_maps: Sensitivities, complex128, shape `(N, H, W)`.
        mask: Bool, shape `(H, W)`: which k-space samples are measured, frequency zero at `n // 2`.
    """

    name: ClassVar[str] = "multicoil-mri"
    observed: Tensor

    def __init__(self, grid: Grid, coil_maps: Tensor, mask: Tensor) -> None:
        size = (2, *grid.shape)
        super().__init__(mask=mask.to(torch.float64), coil_maps=coil_maps, img_size=size, **plain_physics())
        self.grid = grid
        self.channels = 2
        self.data_shape = (2, *coil_maps.shape)
        self.data_grid = index_grid(self.data_shape[1:])
        self.register_buffer("observed", mask.expand(self.data_shape).clone())

    def A(self, x: Tensor) -> Tensor:
        return super().A(x)

    def A_adjoint(self, y: Tensor) -> Tensor:
        return super().A_adjoint(torch.where(self.observed, y, torch.zeros_like(y)))


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
