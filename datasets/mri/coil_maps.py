"""Coil sensitivities of an MRI acquisition, estimated from the fully sampled centre of its k-space."""

from __future__ import annotations

import numpy as np

CALIBRATION_WIDTH = 24  # the widest block that is used, as sigpy and BART do
KERNEL_WIDTH = 6
CROP = 0.95
"""Eigenvalue of ESPIRiT's operator below which a point lies outside the maps, as in sigpy."""


def centre_block(shape: tuple[int, ...], width: int) -> tuple[slice, ...]:
    """The centred square of that width, placed as sigpy places it.

    Arguments:
        shape: Sizes of k-space `(ky, kx)`; zero frequency lies at `n // 2`.
        width: Samples along each axis.
    """
    return tuple(slice(n // 2 - width // 2, n // 2 - width // 2 + width) for n in shape)


def calibration_width(sampled: np.ndarray) -> int:
    """Width of the largest fully sampled square about the centre of k-space, at most 24.

    Arguments:
        sampled: Which positions were measured, `(ky, kx)`, bool.
    """
    width = 0
    while width < min(CALIBRATION_WIDTH, *sampled.shape) and sampled[centre_block(sampled.shape, width + 1)].all():
        width += 1
    return width


def coil_maps(kspace: np.ndarray, width: int, crop: float = CROP) -> np.ndarray:
    """Coil sensitivities by ESPIRiT (Uecker et al. 2014, sigpy's implementation and settings).

    Arguments:
        kspace: Centred k-space `(coil, ky, kx)`, complex.
        width: Width of its fully sampled centre.
        crop: Eigenvalue, from 0 to 1, below which maps are 0; 0 keeps them everywhere.

    Returns:
        `(coil, y, x)`, complex; the sum of squared magnitudes over coils is 1 inside the support, 0 outside.
    """
    from sigpy.mri.app import EspiritCalib  # numba comes with it and takes seconds

    size = 2.0 ** -np.floor(np.log2(np.abs(kspace).max()))  # squares stay within single precision, digits as they are
    single = (size * kspace).astype(np.complex64)  # as files store it; its matrices take 2 GB at 15 coils of 640 x 372
    maps = (
        EspiritCalib(single, calib_width=width, kernel_width=KERNEL_WIDTH, crop=crop, show_pbar=False)
        .run()
        .astype(np.complex128)
    )
    norm = np.sqrt(np.sum(np.abs(maps) ** 2, axis=0))
    return np.where(norm > 0, maps / np.where(norm > 0, norm, 1), 0)
