"""Gaussian noise with a low-rank common part: model error in addition to instrument noise."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infield.core.errors import InfieldError
from infield.physics.noise.base import NoiseDescription, NoiseModel, positive_tensor, standard_normal_like, sum_observed


@dataclass(frozen=True, eq=False)
class LowRankGaussianNoise(NoiseModel):
    r"""Gaussian noise of covariance :math:`R = D + F^T F`, D diagonal, with few rows in F.

    With G = F D^{-1/2} = W S V (singular values S) every function of R is diagonal in V up to D:
    :math:`R = D^{1/2} (1 + V^T S^2 V) D^{1/2}`. Each map costs O(data x rows).

    Arguments:
        diagonal: D, independent variance of each datum in squared units of the data: a number or shape `data`.
        factors: F, shape `(rows, *data)`, in units of the data; zero for data that are not observed.

    Raises:
        InfieldError: If an entry of D is not finite and above zero, one of F not finite, or their shapes do not match.
    """

    diagonal: Tensor
    factors: Tensor
    _deviation: Tensor = field(init=False, repr=False)
    _strengths: Tensor = field(init=False, repr=False)
    _directions: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        diagonal = positive_tensor(self.diagonal, "low-rank-gaussian", "diagonal")
        factors = torch.as_tensor(self.factors).to(diagonal)
        data = tuple(factors.shape[1:])
        if factors.ndim < 2 or (diagonal.ndim and tuple(diagonal.shape) != data):
            raise InfieldError(
                where="noise 'low-rank-gaussian'",
                found=f"factors of shape {tuple(factors.shape)} and a diagonal of shape {tuple(diagonal.shape)}",
                expected="(rows, *data) and data",
            )
        if not torch.isfinite(factors).all():
            raise InfieldError(
                where="noise 'low-rank-gaussian'", found="factors with NaN or Inf", expected="finite numbers"
            )
        deviation = diagonal.sqrt().expand(data)
        _, singular, V = torch.linalg.svd((factors / deviation).flatten(1), full_matrices=False)
        for name, value in (("diagonal", diagonal), ("factors", factors), ("_deviation", deviation)):
            object.__setattr__(self, name, value)
        object.__setattr__(self, "_strengths", singular**2)
        object.__setattr__(self, "_directions", V)

    @classmethod
    def from_description(cls, description: NoiseDescription) -> LowRankGaussianNoise:
        """The model that a file describes."""
        description.expect("diagonal", "factors")
        factors = description.tensor("factors")
        return cls(description.value("diagonal"), factors)

    def check(self, y: Tensor, observed: Tensor | None = None) -> None:
        super().check(y, observed)
        if observed is not None and self.factors.to(observed.device)[:, ~observed].any():
            raise InfieldError(
                where="measurement",
                found="factors of its low-rank noise on data that are not observed",
                expected="zeros there",
            )

    @property
    def variance(self) -> Tensor:
        return self.diagonal.expand(self._deviation.shape) + self.factors.square().sum(0)

    def of_mean(self, count: float) -> LowRankGaussianNoise:
        """Of the mean of several data: a covariance so many times smaller."""
        return LowRankGaussianNoise(self.diagonal / count, self.factors / math.sqrt(count))

    def _mix(self, w: Tensor, gains: Tensor) -> Tensor:
        """(1 + V^T gains V) w."""
        V, flat = self._directions.to(w), w.flatten(1)
        return (flat + (flat @ V.mT * gains.to(w)) @ V).reshape(w.shape)

    def _whiten(self, r: Tensor) -> Tensor:
        """(1 + V^T S^2 V)^{-1/2} D^{-1/2} r."""
        return self._mix(r / self._deviation.to(r), (1 + self._strengths).rsqrt() - 1)

    def apply(self, r: Tensor) -> Tensor:
        return self._deviation.to(r) * self._mix(self._deviation.to(r) * r, self._strengths)

    def solve(self, r: Tensor) -> Tensor:
        gains = -self._strengths / (1 + self._strengths)
        return self._mix(r / self._deviation.to(r), gains) / self._deviation.to(r)

    def root(self, w: Tensor) -> Tensor:
        return self._deviation.to(w) * self._mix(w, (1 + self._strengths).sqrt() - 1)

    def log_prob(self, y: Tensor, z: Tensor, observed: Tensor | None = None) -> Tensor:
        log_det = sum_observed(torch.log(2 * math.pi * self._deviation.to(z) ** 2)[None], observed) + (
            torch.log1p(self._strengths).sum().to(z)
        )
        return -0.5 * (self.chi_square(y, z, observed) + log_det)

    def gradient(self, y: Tensor, z: Tensor) -> Tensor:
        return self.solve(y - z)

    def chi_square(self, y: Tensor, z: Tensor, observed: Tensor | None = None) -> Tensor:
        r = y - z
        if observed is not None:
            r = torch.where(observed, r, torch.zeros_like(r))
        return self._whiten(r).square().flatten(1).sum(1)

    def sample(self, z: Tensor, generator: torch.Generator) -> Tensor:
        return z + self.root(standard_normal_like(z, generator))

    def to_json(self) -> dict[str, Any]:
        scalar = self.diagonal.ndim == 0
        diagonal = self.diagonal.item() if scalar else "noise_diagonal"
        return {"law": "low-rank-gaussian", "diagonal": diagonal, "factors": "noise_factors"}

    def arrays(self) -> dict[str, np.ndarray]:
        own = {} if self.diagonal.ndim == 0 else {"noise_diagonal": self.diagonal.numpy(force=True)}
        return {**own, "noise_factors": self.factors.numpy(force=True)}
