"""The points and waves of a channel flow: periodic in x and z, Chebyshev points in y; and fields on them.

Fields are `(*, y, z, x)`, amplitudes of waves `(*, y, kz, kx)`, complex. The waves of x and z with index up to
n / 2 - 1 take part; kx is never negative: the other half is the conjugate of this one.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from infield.core.errors import InfieldError
from infield.physics.wall_pressure.channel.chebyshev import Chebyshev, product


class ChannelGrid:
    """Waves and points, what turns one into the other, and solutions that need values at both walls.

    Arguments:
        lengths: Periods in x and z, in half heights.
        points: Points in x, y and z; those of x and z are even.
        device: Device of all computations.

    Attributes:
        chebyshev: The points and matrices of y.
        kx, kz: Wave numbers, `(nx / 2,)` and `(nz - 1,)`.
        k2: Their squares, `(kz, kx)`.
        wave: 0 for the mean, else 1, `(kz, kx)`.

    Raises:
        InfieldError: A number does not fit.
    """

    def __init__(
        self, lengths: tuple[float, float], points: tuple[int, int, int], device: torch.device | str = "cpu"
    ) -> None:
        (lx, lz), (nx, ny, nz) = lengths, points
        for name, n in (("x", nx), ("z", nz)):
            if n < 4 or n % 2:
                raise InfieldError(
                    where="channel", found=f"{n} points in {name}", expected="an even number of at least 4"
                )
        for name, length in (("x", lx), ("z", lz)):
            if not 0 < length < math.inf:
                raise InfieldError(
                    where="channel", found=f"length {length} in {name}", expected="a finite number above zero"
                )
        self.lengths, self.points, self.device = lengths, points, torch.device(device)
        self.chebyshev = c = Chebyshev(ny, self.device)
        half = nz // 2
        index = torch.cat([torch.arange(half), torch.arange(1 - half, 0)])
        self.kx = 2 * math.pi / lx * torch.arange(nx // 2, dtype=torch.float64, device=self.device)
        self.kz = 2 * math.pi / lz * index.to(self.kx)
        self.ikx, self.ikz = 1j * self.kx[None], 1j * self.kz[:, None]
        self.k2 = self.kx**2 + self.kz[:, None] ** 2
        self.wave = (self.k2 > 0).to(torch.float64)
        self.influence = torch.einsum("en,ns->esn", c.end_slopes, c.end_sources).reshape(4, -1)

    def fields(self, amplitudes: Tensor, shape: tuple[int, int]) -> Tensor:
        """Values on planes `(*, *shape)`, with at least as many points along z and x as the grid has."""
        half = self.points[2] // 2
        wide = amplitudes.new_zeros(*amplitudes.shape[:-2], shape[0], amplitudes.shape[-1])
        wide[..., :half, :] = amplitudes[..., :half, :]
        wide[..., 1 - half :, :] = amplitudes[..., half:, :]
        return torch.fft.irfft(torch.fft.ifft(wide, dim=-2, norm="forward"), n=shape[1], dim=-1, norm="forward")

    def amplitudes(self, fields: Tensor) -> Tensor:
        """Amplitudes of the waves that take part, of fields on planes of at least as many points as the grid has."""
        half = self.points[2] // 2
        along_x = torch.fft.rfft(fields, dim=-1, norm="forward")[..., : self.points[0] // 2]
        wide = torch.fft.fft(along_x, dim=-2, norm="forward")
        return torch.cat([wide[..., :half, :], wide[..., 1 - half :, :]], -2)

    def slopes_of_sources(self, inverse: Tensor) -> Tensor:
        """Slopes at both walls of what values at both walls cause inside, for each wave, `(4, kz, kx)`.

        Arguments:
            inverse: By what a source is multiplied to be a solution, in the eigenvectors of y, `(n, kz, kx)`.
        """
        return (self.influence @ inverse.flatten(1)).reshape(4, *self.k2.shape)

    def solve_pairs(self, matrix: Tensor, rhs: Tensor) -> Tensor:
        """Two equations for each wave but the mean, which gets 0; the matrix by rows `(4, kz, kx)`."""
        a, b, c, d = matrix
        first, second = rhs * (self.wave / torch.where(self.wave > 0, a * d - b * c, 1.0))
        return torch.stack([d * first - b * second, a * second - c * first])

    def pressure(self, force: Tensor, slopes: Tensor) -> Tensor:
        """The solution of Laplacian P = div force with given slopes at both walls, plane means removed.

        Arguments:
            force: Amplitudes of its three components, `(3, ny, kz, kx)`.
            slopes: Amplitudes of dP/dy at the lower and the upper wall, `(2, kz, kx)`.

        Returns:
            Amplitudes, `(ny, kz, kx)`.
        """
        c = self.chebyshev
        divergence = self.ikx * force[0] + product(c.first, force[1]) + self.ikz * force[2]
        inverse = 1 / (c.eigenvalues[:, None, None] - self.k2)
        inner = inverse * product(c.coefficients, divergence[1:-1])
        direct = c.first[[0, 0, -1, -1], [0, -1, 0, -1]][:, None, None]
        at_walls = self.solve_pairs(direct - self.slopes_of_sources(inverse), slopes - product(c.end_slopes, inner))
        inner = inner - inverse * product(c.end_sources, at_walls)
        found = product(c.values, inner * self.wave)
        found[[0, -1]] = at_walls
        return found
