"""Orthonormal bases in which a source measure is diagonal: x = T^T c, c = T x, T T^T = I."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class Modes(Protocol):
    """An orthonormal change of coordinates on events of shape `(channel, *space)`, any number of leading axes.

    What comes out has the precision of what goes in, whatever that of the basis.
    """

    def analyse(self, x: Tensor) -> Tensor:
        """Coordinates c = T x of fields, shape `(..., channel, *space)`."""
        ...

    def synthesise(self, c: Tensor) -> Tensor:
        """Fields x = T^T c, shape `(..., channel, *space)`."""
        ...

    def white(self, w: Tensor) -> Tensor:
        """Coordinates of white noise, from white noise w on the grid, shape of w.

        T w where a decomposition found the basis: its signs, and the basis within repeated eigenvalues, depend on the
        processor, and a draw must not depend on them. In a fixed basis w may be used directly.
        """
        ...

    def white_on_grid(self, c: Tensor) -> Tensor:
        """The inverse of `white`."""
        ...

    def to(self, device: torch.device | str) -> Modes:
        """The same basis on another device."""
        ...


class FixedBasis:
    """White noise of a basis that no decomposition found: it may be used as its own coordinates."""

    def white(self, w: Tensor) -> Tensor:
        return w

    def white_on_grid(self, c: Tensor) -> Tensor:
        return c


@dataclass(frozen=True)
class Pixels(FixedBasis):
    """The field's own values; diagonalises white noise."""

    def analyse(self, x: Tensor) -> Tensor:
        return x

    def synthesise(self, c: Tensor) -> Tensor:
        return c

    def to(self, device: torch.device | str) -> Pixels:
        return self


@dataclass(frozen=True)
class Hartley(FixedBasis):
    """The real, orthonormal Fourier basis cos + sin; diagonalises every stationary measure on a periodic grid.

    The transform is Re F - Im F of the orthonormal discrete Fourier transform F, and its own inverse
    (Bracewell 1983, J. Opt. Soc. Am. 73, 1832).

    Arguments:
        ndim: Number of space axes.
    """

    ndim: int

    def analyse(self, x: Tensor) -> Tensor:
        spectrum = torch.fft.fftn(x, dim=tuple(range(-self.ndim, 0)), norm="ortho")
        return spectrum.real - spectrum.imag

    def synthesise(self, c: Tensor) -> Tensor:
        return self.analyse(c)

    def to(self, device: torch.device | str) -> Hartley:
        return self


@dataclass(frozen=True)
class HartleyAcross(FixedBasis):
    """The Hartley basis of all space axes but the last one, which stays as it is: for lightcones."""

    def analyse(self, x: Tensor) -> Tensor:
        spectrum = torch.fft.fft2(x, dim=(-3, -2), norm="ortho")
        return spectrum.real - spectrum.imag

    def synthesise(self, c: Tensor) -> Tensor:
        return self.analyse(c)

    def to(self, device: torch.device | str) -> HartleyAcross:
        return self


class FoundBasis:
    """White noise of a basis that a decomposition found, on whose signs no draw may depend (`Modes.white`)."""

    def white(self: Modes, w: Tensor) -> Tensor:
        return self.analyse(w)

    def white_on_grid(self: Modes, c: Tensor) -> Tensor:
        return self.synthesise(c)


@dataclass(frozen=True)
class Eigenbasis(FoundBasis):
    """The eigenvectors of a dense covariance on few points.

    Arguments:
        vectors: Orthonormal eigenvectors in columns, shape `(points, points)`.
        shape: Space shape of the field, with `points` values.
    """

    vectors: Tensor
    shape: tuple[int, ...]

    def analyse(self, x: Tensor) -> Tensor:
        return (x.flatten(-len(self.shape)) @ self.vectors.to(x.dtype)).reshape(x.shape)

    def synthesise(self, c: Tensor) -> Tensor:
        return (c.flatten(-len(self.shape)) @ self.vectors.mT.to(c.dtype)).reshape(c.shape)

    def to(self, device: torch.device | str) -> Eigenbasis:
        return Eigenbasis(self.vectors.to(device), self.shape)


@dataclass(frozen=True)
class LeadingDirections(FoundBasis):
    """A few orthonormal directions V, and an orthonormal basis of all that is orthogonal to them, in O(N r).

    The basis is one block reflection (Schreiber & Parlett 1988, SIAM J. Numer. Anal. 25, 189), the symmetric relative
    of the compact WY product of Householder reflections: with V_1 the first r rows of V, polar decomposition
    -V_1 = P S^T and E the first r unit vectors, H = I - (E - V S) (I - V_1 S)^{-1} (E - V S)^T is orthogonal, its own
    inverse, and H E = V S. No N-by-N matrix is formed.

    Arguments:
        reflector: Z, shape `(points, r)`, with H = I - Z Z^T and Z^T Z = 2 I.
        rotation: S, orthogonal, shape `(r, r)`.
        shape: Space shape of the field, with `points` values.
    """

    reflector: Tensor
    rotation: Tensor
    shape: tuple[int, ...]

    @classmethod
    def of(cls, vectors: Tensor, shape: tuple[int, ...]) -> LeadingDirections:
        """The basis whose first r coordinates are along given orthonormal columns, shape `(points, r)`."""
        r = vectors.shape[1]
        left, cosines, right = torch.linalg.svd(vectors[:r])
        rotation = -right.mT @ left.mT  # V_1 S = -(positive semidefinite): I - V_1 S is well conditioned
        difference = -vectors @ rotation
        difference[:r] += torch.eye(r).to(vectors)
        root = (left * (1 + cosines)) @ left.mT
        reflector = torch.linalg.solve_triangular(torch.linalg.cholesky(root), difference.mT, upper=False).mT
        return cls(reflector.contiguous(), rotation, shape)

    def analyse(self, x: Tensor) -> Tensor:
        c = self._reflect(x.flatten(-len(self.shape)))
        r = len(self.rotation)
        return torch.cat([c[..., :r] @ self.rotation.mT.to(x.dtype), c[..., r:]], dim=-1).reshape(x.shape)

    def synthesise(self, c: Tensor) -> Tensor:
        flat, r = c.flatten(-len(self.shape)), len(self.rotation)
        return self._reflect(torch.cat([flat[..., :r] @ self.rotation.to(c.dtype), flat[..., r:]], dim=-1)).reshape(
            c.shape
        )

    def _reflect(self, x: Tensor) -> Tensor:
        reflector = self.reflector.to(x.dtype)
        return x - (x @ reflector) @ reflector.mT

    def to(self, device: torch.device | str) -> LeadingDirections:
        return LeadingDirections(self.reflector.to(device), self.rotation.to(device), self.shape)
