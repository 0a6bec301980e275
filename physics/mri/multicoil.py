"""Multi-coil magnetic resonance imaging with known coil sensitivities: of one slice, and of a stack of them."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from infield.core._deepinv import MultiCoilMRI as DeepinvMultiCoilMRI
from infield.core.grid import Grid
from infield.physics.operators.base import ComplexBuffers, LinearOperator, index_grid, plain_physics
from infield.physics.operators.description import OperatorDescription
from infield.physics.operators.least_squares import LeastSquaresMixin

MAX_PERTURBATIONS = 128
"""Errors of coil maps that are told apart at most."""

CACHED_PIXELS = 1 << 18
"""Pixels of the coil images that are transformed together (4 MiB)."""


class _CoilsThroughFFT(ComplexBuffers):
    """A and its adjoint, of coil images `(coil, [z,] y, x)`.

    With c = n // 2 the centred transform of an axis is exp(-2 pi i (k - c)(x - c) / n): an ordinary one between two
    phases, which are multiplied into the coil maps and the samples. So no array is shifted, for odd sizes as for even
    ones; deepinv's own methods shift every coil image four times.
    """

    data_shape: tuple[int, ...]
    observed: Tensor
    image_side: Tensor
    kspace_side: Tensor
    sampled: Tensor

    def _keep(self, coil_maps: Tensor, mask: Tensor) -> None:
        rows, columns = (_centring_phase(n) for n in mask.shape[-2:])
        phase = rows[:, None] * columns
        self.register_buffer("image_side", phase * coil_maps)
        self.register_buffer("sampled", mask.flatten().nonzero()[:, 0])
        constant = _constant_phase(tuple(mask.shape[-2:]))
        self.register_buffer("kspace_side", (phase * constant).expand(mask.shape)[mask])

    def _groups(self) -> list[slice]:
        """Coils whose images are transformed together: arrays that fit into a cache, whatever the number of coils."""
        coils, pixels = self.data_shape[1], math.prod(self.data_shape[2:])
        few = max(CACHED_PIXELS // pixels, 1)
        return [slice(i, min(i + few, coils)) for i in range(0, coils, few)]

    def _samples(self, image: Tensor, coils: slice) -> Tensor:
        """Measured samples of some coils, without the phase of k-space, `(batch, coil, samples)`."""
        kspace = torch.fft.fft2(self.image_side[coils] * image, norm="ortho").flatten(2)
        return kspace[..., self.sampled]

    def _image(self, samples: Tensor, coils: slice) -> Tensor:
        """The adjoint of `_samples`, `(batch, [z,] y, x)`."""
        kspace = samples.new_zeros((*samples.shape[:2], math.prod(self.data_shape[2:])))
        kspace[..., self.sampled] = samples
        images = torch.fft.ifft2(kspace.unflatten(2, self.data_shape[2:]), norm="ortho")
        return (images * self.image_side[coils].conj()).sum(1)

    def A(self, x: Tensor) -> Tensor:
        image = torch.complex(x[:, 0], x[:, 1])[:, None]
        y = x.new_zeros((len(x), *self.data_shape)).flatten(3)
        for coils in self._groups():
            samples = torch.view_as_real(self._samples(image, coils) * self.kspace_side).movedim(-1, 1)
            y[:, :, coils].index_copy_(3, self.sampled, samples)
        return y.unflatten(3, self.data_shape[2:])

    def A_adjoint(self, y: Tensor) -> Tensor:
        y, turned = y.flatten(3), self.kspace_side.conj()
        parts = []
        for coils in self._groups():
            samples = y[:, :, coils][..., self.sampled]
            parts.append(self._image(torch.complex(samples[:, 0], samples[:, 1]) * turned, coils))
        return torch.view_as_real(sum(parts[1:], start=parts[0])).movedim(-1, 1)

    def perturbations(self, x: Tensor) -> dict[str, Tensor]:
        """Changes of the data of an image `(1, 2, [z,] y, x)` by errors of the coil maps, `(errors, *data)`.

        Each map is multiplied by one plus smooth complex functions, products of cosines along y and x. Independent
        standard normal amplitudes are an error of root mean square one.
        """
        coils = self.data_shape[1]
        order = max((m for m in (1, 2, 3, 4) if 2 * coils * m * m <= MAX_PERTURBATIONS), default=1)
        along = [
            torch.cos(math.pi / n * (torch.arange(n, dtype=x.dtype) + 0.5) * torch.arange(order)[:, None])
            * torch.where(torch.arange(order) > 0, 2.0, 1.0)[:, None].sqrt()
            for n in self.data_shape[-2:]
        ]
        smooth = (along[0][:, None, :, None] * along[1][None, :, None, :]).flatten(0, 1) / (2**0.5 * order)
        of_all = []
        for turned in (x, torch.stack([-x[:, 1], x[:, 0]], 1)):
            shaped = smooth.reshape(len(smooth), *(1,) * (x.ndim - 3), *smooth.shape[1:])
            of_all.append(self.A(shaped * turned))
        one = torch.eye(coils, dtype=x.dtype).reshape(coils, 1, 1, coils, *(1,) * (len(self.data_shape) - 2))
        return {"coil maps": (one * torch.cat(of_all)).flatten(0, 1)}

    def normal(self, x: Tensor, precision: Tensor) -> Tensor:
        """A^H P A x for a Hermitian matrix P between the coils, the same for all samples; shape of x.

        Arguments:
            x: Shape `(batch, 2, [z,] y, x)`.
            precision: P, complex, shape `(N, N)`.
        """
        image = torch.complex(x[:, 0], x[:, 1])[:, None]
        samples = precision.to(image) @ torch.cat([self._samples(image, coils) for coils in self._groups()], dim=1)
        total = torch.zeros_like(image[:, 0])
        for coils in self._groups():
            total += self._image(samples[:, coils], coils)
        return torch.view_as_real(total).movedim(-1, 1)

    def adjoint_of_units(self, index: Tensor) -> Tensor:
        """A^T of data that are 1 at one place each: plane waves under the map of one coil, which need no transform.

        Arguments:
            index: Flat places among the data, which are sampled, shape `(places,)`.

        Returns:
            Shape `(places, 2, [z,] y, x)`.
        """
        part, coil, *slices, ky, kx = torch.unravel_index(index, self.data_shape)
        ny, nx = self.data_shape[-2:]
        one = torch.tensor([1, 1j], dtype=torch.complex128)
        value = one[part] / math.sqrt(ny * nx) / _constant_phase((ny, nx))
        along = []
        for k, n in ((ky, ny), (kx, nx)):  # the inverse transform of a centred place, phases included
            angle = 2 * math.pi / n * (k[:, None] * (torch.arange(n) - n // 2)).to(torch.float64)
            along.append(torch.polar(torch.ones_like(angle), angle))
        waves = (value[:, None] * along[0])[:, :, None] * along[1][:, None]
        images = waves.new_zeros((len(index), *self.data_shape[2:]))
        if slices:
            images[torch.arange(len(index)), slices[0]] = waves * self.image_side[coil, slices[0]].conj()
        else:
            images = waves * self.image_side[coil].conj()
        return torch.view_as_real(images).movedim(-1, 1)


class MultiCoilMRI(_CoilsThroughFFT, LeastSquaresMixin, DeepinvMultiCoilMRI):
    r"""deepinv's operator, y_n = P F (s_n x) for each coil n, with centred orthonormal F.

    The field is a complex image, `(batch, 2, H, W)`; data are `(batch, 2, N, H, W)`, zero where not sampled.

    Arguments:
        grid: Grid of the image, two axes.
        coil_maps: Sensitivities, complex128, shape `(N, H, W)`.
        mask: Bool, shape `(H, W)`: which k-space samples are measured, frequency zero at `n // 2`.
    """

    name: ClassVar[str] = "multicoil-mri"

    def __init__(self, grid: Grid, coil_maps: Tensor, mask: Tensor) -> None:
        size = (2, *grid.shape)
        super().__init__(mask=mask.to(torch.float64), coil_maps=coil_maps, img_size=size, **plain_physics())
        self.grid = grid
        self.channels = 2
        self.data_shape = (2, *coil_maps.shape)
        self.data_grid = index_grid(self.data_shape[1:])
        self.register_buffer("observed", mask.expand(self.data_shape).clone())
        self._keep(coil_maps, mask)


class MultiCoilSlices(_CoilsThroughFFT, LinearOperator):
    r"""A volume measured slice by slice, y_nz = P_z F (s_nz x_z) for each coil n and slice z, F of two axes.

    The field is a complex volume, `(batch, 2, D, H, W)`; data are `(batch, 2, N, D, H, W)`, zero where not sampled.

    Arguments:
        grid: Grid of the volume, slices first.
        coil_maps: Sensitivities, complex128, shape `(N, D, H, W)`.
        mask: Bool, shape `(H, W)` for all slices, or `(D, H, W)`.
    """

    name: ClassVar[str] = "multicoil-mri-slices"
    observed: Tensor

    def __init__(self, grid: Grid, coil_maps: Tensor, mask: Tensor) -> None:
        mask, shape = mask.expand(grid.shape), (2, *coil_maps.shape)
        super().__init__(grid, 2, shape, observed=mask.expand(shape).clone())
        self._keep(coil_maps, mask)


def _centring_phase(n: int) -> Tensor:
    """exp(2 pi i c x / n) for x = 0 ... n - 1, c = n // 2."""
    angle = 2 * math.pi * (n // 2) / n * torch.arange(n, dtype=torch.float64)
    return torch.polar(torch.ones_like(angle), angle)


def _constant_phase(shape: tuple[int, ...]) -> Tensor:
    """The product over the axes of exp(-2 pi i c^2 / n)."""
    angle = torch.tensor(-2 * math.pi * sum((n // 2) ** 2 / n for n in shape), dtype=torch.float64)
    return torch.polar(torch.ones_like(angle), angle)


def build_multicoil_mri(description: OperatorDescription) -> MultiCoilMRI:
    grid, maps = _coils(description, 2, "(real, imaginary) on 2 axes")
    return MultiCoilMRI(grid, maps, description.mask(grid.shape))


def build_multicoil_slices(description: OperatorDescription) -> MultiCoilSlices:
    grid, maps = _coils(description, 3, "(real, imaginary) on 3 axes, slices first")
    return MultiCoilSlices(grid, maps, description.mask(grid.shape[1:], grid.shape))


def _coils(description: OperatorDescription, axes: int, expected: str) -> tuple[Grid, Tensor]:
    """Return the grid of a complex field with this number of axes, and its coil maps, checked."""
    description.expect(arrays=("coil_maps", "mask"))
    grid = description.regular_grid()
    if grid.ndim != axes or description.channels != 2:
        found = f"{description.channels} channels on {grid.ndim} axes"
        raise description.error(found=f"a field of {found}", expected=f"2 channels {expected}")
    maps = description.array("coil_maps")
    if maps.ndim != axes + 1 or maps.shape[1:] != grid.shape or len(maps) == 0:
        sizes = ", ".join(map(str, grid.shape))
        raise description.error(found=f"coil_maps of shape {maps.shape}", expected=f"(coils, {sizes})")
    return grid, torch.from_numpy(maps.astype("complex128"))
