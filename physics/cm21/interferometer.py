r"""Radio interferometry of a lightcone: gridded visibilities of every channel, or their delay transform.

The field is a brightness temperature `(x, y, los)`. With the flat sky, a baseline of u wavelengths measures the mode
k_perp = 2 pi u / D of the sky at comoving distance D (Thompson, Moran & Swenson 2017, chapter 3; Morales & Hewitt
2004). So on the grid of the field

    y = M T F C B x,

B the primary beam, C the mean over the cells of each channel, F the orthonormal Fourier transform over x and y, T the
identity or the orthonormal Fourier transform along each segment of channels (the delay transform, Parsons et al.
2012), and M the mask of measured modes: those with baselines, never k_perp = 0 (an interferometer does not measure the
mean of a channel), and only delays outside the foreground wedge. A visibility and its mirror image are complex
conjugates, so that M keeps one of each pair; noise of independent visibilities is then independent in y, and without a
beam A A^T = c I.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from infield.core.checks import is_whole
from infield.core.grid import Grid
from infield.physics.operators.base import LinearOperator
from infield.physics.operators.description import OperatorDescription


class Interferometer(LinearOperator):
    """Visibilities on the grid of the field, `(batch, 2, kx, ky, channel)`, real and imaginary part, zero elsewhere.

    ky runs from 0 to the highest one, kx is in the order of `torch.fft.fftfreq`. A visibility is in the units of the
    field: its square is the mean power of a mode.

    Arguments:
        grid: Axes (x, y, line of sight).
        mask: Bool, `(kx, ky, channel or delay)`: what is measured; within `independent_modes`.
        channel_cells: Cells of the line of sight per channel; a divisor of their number.
        delay_channels: Channels per segment that is transformed to delays, in the order of `fftfreq` within each
            segment; a divisor of the number of channels. 0 for no transform.
        beam: Primary beam (power), `(x, y, los)`; None for a uniform one.
    """

    name = "interferometer"
    observed: Tensor
    once: Tensor
    beam: Tensor | None

    def __init__(
        self,
        grid: Grid,
        mask: Tensor,
        *,
        channel_cells: int = 1,
        delay_channels: int = 0,
        beam: Tensor | None = None,
    ) -> None:
        nx, ny, depth = grid.shape
        self.channel_cells, self.delay_channels = channel_cells, delay_channels
        shape = (2, nx, ny // 2 + 1, depth // channel_cells)
        super().__init__(grid, 1, shape, observed=mask.expand(shape).clone())
        self.register_buffer("beam", beam)
        once = torch.full((ny // 2 + 1, 1), 0.5, dtype=torch.float64)
        once[[0, -1] if ny % 2 == 0 else 0] = 1
        self.register_buffer("once", once)  # irfft2 counts a mode and its mirror image, but in these columns
        self.row_power = 0.5 / channel_cells if beam is None else None

    def A(self, x: Tensor) -> Tensor:
        sky = x[:, 0] if self.beam is None else self.beam * x[:, 0]
        channels = sky.unflatten(-1, (-1, self.channel_cells)).mean(-1)
        v = torch.fft.rfft2(channels, dim=(1, 2), norm="ortho")
        if self.delay_channels:
            v = torch.fft.fft(v.unflatten(-1, (-1, self.delay_channels)), norm="ortho").flatten(-2)
        return self._measured(torch.stack([v.real, v.imag], dim=1))

    def A_adjoint(self, y: Tensor) -> Tensor:
        y = self._measured(y)
        v = torch.complex(y[:, 0], y[:, 1])
        if self.delay_channels:
            v = torch.fft.ifft(v.unflatten(-1, (-1, self.delay_channels)), norm="ortho").flatten(-2)
        nx, ny, _ = self.grid.shape
        channels = torch.fft.irfft2(self.once * v, s=(nx, ny), dim=(1, 2), norm="ortho")
        sky = channels.repeat_interleave(self.channel_cells, dim=-1) / self.channel_cells
        return (sky if self.beam is None else self.beam * sky)[:, None]

    def _measured(self, y: Tensor) -> Tensor:
        return torch.where(self.observed, y, torch.zeros_like(y))


def independent_modes(nx: int, ny: int) -> Tensor:
    """One of each pair of modes k and -k of a real field, none of those that are their own mirror image (so not k = 0).

    Returns:
        Bool, shape `(nx, ny // 2 + 1)`.
    """
    kept = torch.ones(nx, ny // 2 + 1, dtype=torch.bool)
    for column in {0, ny // 2} if ny % 2 == 0 else {0}:  # these hold both of a pair
        kept[:, column] = False
        kept[1 : (nx + 1) // 2, column] = True
    return kept


def wavenumbers(grid: Grid) -> tuple[Tensor, Tensor]:
    """k_x, shape `(nx,)`, and k_y, shape `(ny // 2 + 1,)`, in radians per unit length of the grid."""
    (nx, ny, _), (dx, dy, _) = grid.shape, grid.spacing
    kx = 2 * math.pi * torch.fft.fftfreq(nx, dx, dtype=torch.float64)
    return kx, 2 * math.pi * torch.fft.rfftfreq(ny, dy, dtype=torch.float64)


def gaussian_beam(grid: Grid, fwhm: Tensor) -> Tensor:
    """A Gaussian power beam that points at the middle of the field.

    Arguments:
        grid: Axes (x, y, line of sight).
        fwhm: Full width at half maximum at each cell of the line of sight, in units of the grid, shape `(los,)`.

    Returns:
        Shape of the grid, 1 in the middle.
    """
    nx, ny, _ = grid.shape
    x, y = (torch.tensor(axis.coordinates, dtype=torch.float64) for axis in grid.axes[:2])
    r2 = (x - x[nx // 2]).square()[:, None] + (y - y[ny // 2]).square()
    return torch.exp(-4 * math.log(2) * r2[..., None] / fwhm.square())


def build_interferometer(description: OperatorDescription) -> Interferometer:
    description.expect(parameters=("channel_cells", "delay_channels"), arrays=("mask", "beam_fwhm"))
    grid = description.regular_grid()
    if grid.ndim != 3 or description.channels != 1:
        found = f"{description.channels} channels on {grid.ndim} axes"
        raise description.error(found=f"a field of {found}", expected="1 channel on (x, y, line of sight)")
    nx, ny, depth = grid.shape
    cells = _whole(description, "channel_cells", 1, least=1)
    if depth % cells:
        raise description.error(found=f"channels of {cells} cells on {depth} cells", expected="a divisor")
    channels = depth // cells
    stretch = _whole(description, "delay_channels", 0, least=0)
    if stretch and channels % stretch:
        raise description.error(found=f"stretches of {stretch} channels on {channels} channels", expected="a divisor")
    mask = description.mask((nx, ny // 2 + 1, channels))
    if (mask & ~independent_modes(nx, ny)[..., None]).any():
        raise description.error(
            found="a mask with k = 0, with both modes of a mirrored pair, or with a mode that mirrors itself",
            expected="modes of independent noise",
            remedy="leave the others out",
        )
    beam = None
    if "beam_fwhm" in description.arrays:
        fwhm = torch.from_numpy(description.array("beam_fwhm", (depth,)).astype("float64"))
        if (fwhm <= 0).any():
            raise description.error(found=f"beam_fwhm {float(fwhm.min()):g}", expected="values above zero")
        beam = gaussian_beam(grid, fwhm)
    return Interferometer(grid, mask, channel_cells=cells, delay_channels=stretch, beam=beam)


def _whole(description: OperatorDescription, name: str, default: int, *, least: int) -> int:
    value: Any = description.parameters.get(name, default)
    if not is_whole(value, least):
        raise description.error(found=f"{name} {value!r}", expected=f"a whole number of at least {least}")
    return value
