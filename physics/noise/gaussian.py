"""Independent Gaussian noise."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from infield.core.renamed import old_names
from infield.physics.noise.base import NoiseDescription, NoiseLaw, positive_tensor, standard_normal_like, sum_observed

if not TYPE_CHECKING:
    __getattr__ = old_names(__name__)


@dataclass(frozen=True, eq=False)
class GaussianNoise(NoiseLaw):
    """Independent Gaussian noise, y = z + n with n ~ N(0, variance).

    Arguments:
        variance: Variance of each datum, in squared units of the data: a number, or a tensor of the data's shape.

    Raises:
        InfieldError: A variance is not finite or not above zero.
    """

    variance: Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "variance", positive_tensor(self.variance, "gaussian", "variance"))

    @classmethod
    def from_description(cls, description: NoiseDescription) -> GaussianNoise:
        """The model that a file describes."""
        description.expect("variance")
        return cls(description.value("variance"))

    def apply(self, r: Tensor) -> Tensor:
        return r * self.variance.to(r)

    def solve(self, r: Tensor) -> Tensor:
        return r / self.variance.to(r)

    def root(self, w: Tensor) -> Tensor:
        return w * self.variance.to(w).sqrt()

    def log_prob(self, y: Tensor, z: Tensor, observed: Tensor | None = None) -> Tensor:
        variance = self.variance.to(z)
        return -0.5 * sum_observed((y - z) ** 2 / variance + torch.log(2 * math.pi * variance), observed)

    def gradient(self, y: Tensor, z: Tensor) -> Tensor:
        return self.solve(y - z)

    def chi_square(self, y: Tensor, z: Tensor, observed: Tensor | None = None) -> Tensor:
        return sum_observed((y - z) ** 2 / self.variance.to(z), observed)

    def sample(self, z: Tensor, generator: torch.Generator) -> Tensor:
        return z + self.root(standard_normal_like(z, generator))

    def to_json(self) -> dict[str, Any]:
        scalar = self.variance.ndim == 0
        return {"law": "gaussian", "variance": self.variance.item() if scalar else "noise_variance"}

    def arrays(self) -> dict[str, np.ndarray]:
        return {} if self.variance.ndim == 0 else {"noise_variance": self.variance.numpy(force=True)}
