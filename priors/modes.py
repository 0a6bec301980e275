"""Orthonormal bases in which a source measure is diagonal: x = T^T c, c = T x, T T^T = I."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor


@runtime_checkable
class Modes(Protocol):
    """An orthonormal change of coordinates on events of shape `(channel, *space)`, any number of leading axes."""

    def analyse(self, x: Tensor) -> Tensor:
        """Coordinates c = T x of fields, shape `(..., channel, *space)`."""
        ...

    def synthesise(self, c: Tensor) -> Tensor:
        """Fields x = T^T c, shape `(..., channel, *space)`."""
        ...

    def to(self, device: torch.device | str) -> Modes:
        """The same basis on another device."""
        ...


@dataclass(frozen=True)
class Pixels:
    """The field's own values; diagonalises white noise."""

    def analyse(self, x: Tensor) -> Tensor:
        return x

    def synthesise(self, c: Tensor) -> Tensor:
        return c

    def to(self, device: torch.device | str) -> Pixels:
        return self


@dataclass(frozen=True)
class Hartley:
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
class Eigenbasis:
    """The eigenvectors of a dense covariance on few points.

    Arguments:
        vectors: Orthonormal eigenvectors in columns, shape `(points, points)`.
        shape: Space shape of the field, with `points` values.
    """

    vectors: Tensor
    shape: tuple[int, ...]

    def analyse(self, x: Tensor) -> Tensor:
        return (x.flatten(-len(self.shape)) @ self.vectors).reshape(x.shape)

    def synthesise(self, c: Tensor) -> Tensor:
        return (c.flatten(-len(self.shape)) @ self.vectors.mT).reshape(c.shape)

    def to(self, device: torch.device | str) -> Eigenbasis:
        return Eigenbasis(self.vectors.to(device), self.shape)
