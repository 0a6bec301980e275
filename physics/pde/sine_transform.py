"""The discrete sine transform (type I), which diagonalises second differences between two zeros."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

MATRIX_UP_TO = 256  # points an axis; below, a matrix product is faster than torch's FFT, measured on one core


def sine_transform(x: Tensor, ndim: int) -> Tensor:
    r"""Along each of the last axes :math:`y_k = \sqrt{2 / (n + 1)} \sum_{j=1}^n x_j \sin(\pi j k / (n + 1))`.

    Orthogonal and symmetric, so its own inverse and its own adjoint.

    Arguments:
        x: Real, shape `(..., n_1, ..., n_ndim)`.
        ndim: Number of last axes to transform.
    """
    for axis in range(-ndim, 0):
        x = _along_last(x.movedim(axis, -1)).movedim(-1, axis)
    return x


def _along_last(x: Tensor) -> Tensor:
    n = x.shape[-1]
    if n <= MATRIX_UP_TO:
        return x @ _sines(n, x.dtype, x.device)
    # the sine series of x is minus the imaginary part of the Fourier series of 0, x, 0, ..., 0 of length 2 (n + 1)
    padded = torch.nn.functional.pad(x, (1, 0))
    return -((2 / (n + 1)) ** 0.5) * torch.fft.rfft(padded, 2 * (n + 1)).imag[..., 1:-1]


@lru_cache(maxsize=32)
def _sines(n: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    index = torch.arange(1, n + 1, device=device)
    angle = torch.outer(index, index) % (2 * (n + 1))  # whole numbers, so that large ones lose no digits
    return ((2 / (n + 1)) ** 0.5 * torch.sin(torch.pi / (n + 1) * angle.to(torch.float64))).to(dtype)
