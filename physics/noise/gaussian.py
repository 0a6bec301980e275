"""Independent Gaussian noise, of known or unknown variance."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

import numpy as np
import torch
from torch import Tensor

from infield.core.errors import InfieldError
from infield.core.renamed import old_names
from infield.physics.noise.base import NoiseDescription, NoiseModel, positive_tensor, standard_normal_like, sum_observed

if not TYPE_CHECKING:
    __getattr__ = old_names(__name__)

DATA = "data"
"""Name under which a reader passes the observed data to a noise model whose variance is estimated from them."""

ESTIMATE: Mapping[str, bool] = {"estimate": True}
"""Stored in place of a variance that is to be estimated."""


@dataclass(frozen=True, eq=False)
class GaussianNoise(NoiseModel):
    """Independent Gaussian noise, y = z + n with n ~ N(0, variance).

    Arguments:
        variance: Variance of each datum, in squared units of the data: a number, or a tensor of the data's shape.

    Raises:
        InfieldError: A variance is not finite or not above zero.
    """

    estimated: ClassVar[bool] = False
    """Whether the variance is to be estimated with the field, and a stand-in until then."""
    variance: Tensor

    def __post_init__(self) -> None:
        object.__setattr__(self, "variance", positive_tensor(self.variance, "gaussian", "variance"))

    @classmethod
    def from_description(cls, description: NoiseDescription) -> GaussianNoise:
        """The model that a file describes."""
        description.expect("variance")
        if description.entries["variance"] == ESTIMATE:
            return UnknownGaussianNoise.of_data(description.arrays.get(DATA, np.zeros(0)))
        return cls(description.value("variance"))

    def of_mean(self, count: float) -> GaussianNoise:
        """Of the mean of several data: a variance so many times smaller."""
        return GaussianNoise(self.variance / count)

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

    def fisher(self, z: Tensor) -> Tensor:
        """Fisher information of each datum about its mean, 1 / variance, shape of `z`."""
        return (1 / self.variance.to(z)).expand(z.shape)

    def chi_square(self, y: Tensor, z: Tensor, observed: Tensor | None = None) -> Tensor:
        return sum_observed((y - z) ** 2 / self.variance.to(z), observed)

    def sample(self, z: Tensor, generator: torch.Generator) -> Tensor:
        return z + self.root(standard_normal_like(z, generator))

    def to_json(self) -> dict[str, Any]:
        scalar = self.variance.ndim == 0
        return {"law": "gaussian", "variance": self.variance.item() if scalar else "noise_variance"}

    def arrays(self) -> dict[str, np.ndarray]:
        return {} if self.variance.ndim == 0 else {"noise_variance": self.variance.numpy(force=True)}


@dataclass(frozen=True, eq=False)
class UnknownGaussianNoise(GaussianNoise):
    """Independent Gaussian noise whose variance a file leaves open, to be estimated together with the field.

    No likelihood is to be had of it: every method refuses. Whatever estimates the variance puts `GaussianNoise` in its
    place.

    Arguments:
        variance: A stand-in from which an estimate may start, by `of_data` the sample variance of the data: about the
            most that noise could account for.
    """

    estimated: ClassVar[bool] = True

    @classmethod
    def of_data(cls, data: np.ndarray) -> UnknownGaussianNoise:
        """With the unbiased sample variance of all given data.

        Raises:
            InfieldError: If the data do not differ.
        """
        values = np.asarray(data, dtype=np.float64).ravel()
        if values.size == 0 or not np.ptp(values) > 0:
            raise InfieldError(
                where="noise 'gaussian'",
                found=f"a variance to be estimated, and {values.size} data that are all the same",
                expected="data that differ",
                remedy="state the variance",
            )
        return cls(torch.tensor(values.var(ddof=1), dtype=torch.float64))

    def _refuse(self) -> NoReturn:
        raise unknown_variance()

    def of_mean(self, count: float) -> GaussianNoise:
        self._refuse()

    def apply(self, r: Tensor) -> Tensor:
        self._refuse()

    def solve(self, r: Tensor) -> Tensor:
        self._refuse()

    def root(self, w: Tensor) -> Tensor:
        self._refuse()

    def log_prob(self, y: Tensor, z: Tensor, observed: Tensor | None = None) -> Tensor:
        self._refuse()

    def chi_square(self, y: Tensor, z: Tensor, observed: Tensor | None = None) -> Tensor:
        self._refuse()

    def to_json(self) -> dict[str, Any]:
        return {"law": "gaussian", "variance": dict(ESTIMATE)}

    def arrays(self) -> dict[str, np.ndarray]:
        return {}


def unknown_variance() -> InfieldError:
    """Remedy where a noise level is needed that the measurement leaves open."""
    return InfieldError(
        where="noise 'gaussian'",
        found="a variance that is to be estimated from the data",
        expected="a stated one",
        remedy="state it when the measurement is made ({noise_std}), or reconstruct without {prior} and {sampler}: the "
        "default estimates it",
        parameters=["noise_std", "prior", "sampler"],
    )


def refuse_unknown_variance(noise: object) -> None:
    """Refuse a noise model whose variance is to be estimated, for whatever does not estimate it.

    Raises:
        InfieldError: It is one.
    """
    if getattr(noise, "estimated", False):
        raise unknown_variance()
