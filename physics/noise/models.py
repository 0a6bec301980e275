"""Noise models for Python callers, `infield.noise`: parameters are standard deviations in the units of the data."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from infield.core.errors import InfieldError
from infield.physics.noise.base import GaussianNoiseModel, NoiseModel, positive_tensor
from infield.physics.noise.gaussian import GaussianNoise
from infield.physics.noise.low_rank import LowRankGaussianNoise
from infield.physics.noise.poisson import PoissonGaussianNoise, PoissonNoise

__all__ = ["Gaussian", "GaussianNoiseModel", "LowRankGaussian", "NoiseModel", "Poisson", "PoissonGaussian"]


def Gaussian(std: float | np.ndarray | Tensor) -> GaussianNoise:
    """Independent Gaussian noise.

    Arguments:
        std: Standard deviation, in the units of the data: a number, or one for each datum in the shape of the data.

    Raises:
        InfieldError: One is not finite or not above zero.
    """
    return GaussianNoise(positive_tensor(std, "gaussian", "standard deviation") ** 2)


def Poisson(gain: float = 1.0) -> PoissonNoise:
    """Counts: y / gain ~ Poisson(A x / gain).

    Arguments:
        gain: Data per count.

    Raises:
        InfieldError: It is not finite or not above zero.
    """
    return PoissonNoise(gain)


def PoissonGaussian(gain: float, std: float) -> PoissonGaussianNoise:
    """Counts with independent Gaussian read-out noise.

    Arguments:
        gain: Data per count.
        std: Standard deviation of the read-out noise, in the units of the data.

    Raises:
        InfieldError: One is not finite or not above zero.
    """
    return PoissonGaussianNoise(gain, positive_tensor(std, "poisson-gaussian", "standard deviation") ** 2)


def LowRankGaussian(std: float | np.ndarray | Tensor, factors: Any) -> LowRankGaussianNoise:
    """Gaussian noise with a few directions common to all data: covariance diag(std^2) + F^T F.

    Arguments:
        std: Standard deviation of the independent part, as `Gaussian`.
        factors: F, shape `(rows, *data)`, in the units of the data.

    Raises:
        InfieldError: A standard deviation is not above zero, or a factor is not finite.
    """
    diagonal = positive_tensor(std, "low-rank-gaussian", "standard deviation") ** 2
    return LowRankGaussianNoise(diagonal, torch.as_tensor(factors, dtype=torch.float64))


def check_noise(noise: object) -> None:
    """Refuse what is no noise model.

    Raises:
        InfieldError: With the remedy.
    """
    if not isinstance(noise, NoiseModel):
        raise InfieldError(
            where="measurement",
            found=f"noise {noise!r}"
            if isinstance(noise, int | float | str)
            else f"noise of type {type(noise).__name__}",
            expected="a noise model",
            remedy="write infield.noise.Gaussian(std)",
        )
