"""Common reconstructions of multi-coil MRI, by sigpy: CG-SENSE, L1-wavelet, total variation. One image each.

sigpy's problems have white noise: coils are whitened first, samples and maps alike, so that the noise of a complex
sample of each coil has variance 1, and the image is scaled so that the maps' squares sum to 1 at most. There the
weights of the penalties are of the order of 1, whatever the scanner.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import sigpy.mri.app
import torch
from torch import Tensor

from infield.core.errors import InfieldError
from infield.physics.measurement import Measurement
from infield.physics.mri.multicoil import MultiCoilMRI
from infield.physics.mri.noise import CoilGaussianNoise
from infield.physics.noise.registry import GaussianNoise

MIN_WEIGHT, MAX_WEIGHT = 1e-2, 1e2
"""Range of the penalties' weights."""


@dataclass(frozen=True)
class Coils:
    """Multi-coil k-space as sigpy takes it.

    Arguments:
        kspace: Complex64, shape `(coils, H, W)`, 0 where nothing was sampled; with noise of variance 1.
        maps: Complex64, that shape.
        sampled: Float32, shape `(H, W)`: 1 where sampled.
        scale: Its image over ours.
    """

    kspace: np.ndarray
    maps: np.ndarray
    sampled: np.ndarray
    scale: float


def whitened_coils(measurement: Measurement) -> Coils:
    """The data and maps of a multi-coil measurement, coils mixed so that their noise is white and of variance 1.

    Raises:
        InfieldError: The operator or the noise is another.
    """
    operator, noise = measurement.operator, measurement.noise
    if not isinstance(operator, MultiCoilMRI):
        raise InfieldError(
            where="sigpy's images", found=f"operator '{measurement.description}'", expected="multi-coil k-space"
        )
    y = torch.view_as_complex(measurement.y[0].movedim(0, -1).contiguous())
    assert isinstance(operator.coil_maps, Tensor)
    maps, sampled = operator.coil_maps[0], operator.observed[0, 0]
    y = torch.where(sampled, y, 0.0)
    if isinstance(noise, CoilGaussianNoise):
        L = torch.linalg.cholesky(noise.covariance)
        y, maps = (
            torch.linalg.solve_triangular(L, x.flatten(1).to(L), upper=False).reshape(x.shape) for x in (y, maps)
        )
    elif isinstance(noise, GaussianNoise) and noise.variance.numel() == 1:
        y, maps = (x * (2 * float(noise.variance)) ** -0.5 for x in (y, maps))
    else:
        raise InfieldError(
            where="sigpy's images", found=f"noise {noise}", expected="one variance or a covariance of coils"
        )
    scale = float(maps.abs().square().sum(0).max().sqrt())
    kspace, maps = (x.to(torch.complex64).numpy() for x in (y, maps / scale))
    return Coils(kspace, maps, sampled.float().numpy(), scale)


def cg_sense(measurement: Measurement, iterations: int) -> Tensor:
    """SENSE (Pruessmann et al. 2001) by conjugate gradients without a penalty, stopped early; shape `(1, 2, H, W)`."""
    coils = whitened_coils(measurement)
    app = sigpy.mri.app.SenseRecon(
        coils.kspace, coils.maps, weights=coils.sampled, max_iter=iterations, show_pbar=False
    )
    return _image(app, coils)


def l1_wavelet(measurement: Measurement, weight: float, *, iterations: int = 60) -> Tensor:
    """The least of |y - A x|^2 / 2 + weight |W x|_1 (Lustig et al. 2007), Daubechies-4; shape `(1, 2, H, W)`."""
    coils = whitened_coils(measurement)
    app = sigpy.mri.app.L1WaveletRecon(
        coils.kspace, coils.maps, weight, weights=coils.sampled, max_iter=iterations, show_pbar=False
    )
    return _image(app, coils)


def total_variation(measurement: Measurement, weight: float, *, iterations: int = 300) -> Tensor:
    """The least of |y - A x|^2 / 2 + weight |grad x|_1 (Block et al. 2007); shape `(1, 2, H, W)`."""
    coils = whitened_coils(measurement)
    app = sigpy.mri.app.TotalVariationRecon(
        coils.kspace, coils.maps, weight, weights=coils.sampled, max_iter=iterations, show_pbar=False
    )
    return _image(app, coils)


def by_discrepancy(
    method: Callable[[Measurement, float], Tensor], measurement: Measurement, *, trials: int = 6
) -> tuple[Tensor, float]:
    """The image of the largest weight that still explains the data: chi-square per datum at most 1 (Morozov 1966).

    It takes the noise level, which is known, and no truth.

    Arguments:
        method: (measurement, weight) -> image.
        measurement: Of multi-coil k-space.
        trials: Bisections of the logarithm of the weight.

    Returns:
        The image and its weight; those of the smallest weight tried where none explains the data.
    """
    low, high = np.log(MIN_WEIGHT), np.log(MAX_WEIGHT)
    found = None
    for _ in range(trials):
        middle = (low + high) / 2
        image = method(measurement, float(np.exp(middle)))
        explains = float(measurement.chi_square(image)) <= 1
        if explains or found is None or not found[2]:
            found = image, float(np.exp(middle)), explains
        low, high = (middle, high) if explains else (low, middle)
    assert found is not None
    return found[0], found[1]


def _image(app: sigpy.app.App, coils: Coils) -> Tensor:
    image = app.run() / coils.scale
    return torch.from_numpy(np.stack([image.real, image.imag])).to(torch.float64)[None]
