"""Correlated noise of receiver coils."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infield.core.errors import InfieldError
from infield.physics.noise.base import NoiseDescription, NoiseModel, standard_normal_like, sum_observed


@dataclass(frozen=True, eq=False)
class CoilGaussianNoise(NoiseModel):
    r"""Circular complex Gaussian noise, correlated between coils and independent between k-space samples.

    A sample of all coils is :math:`n \sim CN(0, \Psi)`: :math:`E[n n^H] = \Psi`, :math:`E[n n^T] = 0`, so that the real
    and the imaginary part of coil c each have variance :math:`\Psi_{cc} / 2`. As a map of (real, imaginary) pairs the
    covariance R is the multiplication of the complex vector by :math:`\Psi / 2`.

    Arguments:
        covariance: The matrix Psi (N, N), complex Hermitian positive definite, in squared units of the data.
        k_dimensions: Number of k-space axes after the coil axis, including slices: data are `(batch, 2, N, *k)`.

    Raises:
        InfieldError: If the matrix is not square, finite, Hermitian and positive definite.
    """

    covariance: Tensor
    k_dimensions: int = 2
    _cholesky: Tensor = field(init=False, repr=False)
    _inverse: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        covariance = torch.as_tensor(self.covariance).to(torch.complex128)
        if covariance.ndim != 2 or covariance.shape[0] != covariance.shape[1]:
            found = tuple(covariance.shape)
            raise InfieldError(
                where="noise 'coil-gaussian'", found=f"a covariance of shape {found}", expected="(coils, coils)"
            )
        if not torch.isfinite(torch.view_as_real(covariance)).all():
            raise InfieldError(
                where="noise 'coil-gaussian'", found="a covariance with NaN or Inf", expected="finite numbers"
            )
        if (covariance - covariance.mH).abs().max() > 1e-6 * covariance.abs().max():
            raise InfieldError(
                where="noise 'coil-gaussian'",
                found="a covariance that is not Hermitian",
                expected="E[n n^H] of the coils",
            )
        covariance = (covariance + covariance.mH) / 2
        cholesky, info = torch.linalg.cholesky_ex(covariance)
        if info.item() != 0:
            lowest = torch.linalg.eigvalsh(covariance)[0].item()
            raise InfieldError(
                where="noise 'coil-gaussian'",
                found=f"a covariance with the lowest eigenvalue {lowest:.3g}",
                expected="a positive definite one",
                remedy="estimate it from more noise samples",
            )
        object.__setattr__(self, "covariance", covariance)
        object.__setattr__(self, "_cholesky", cholesky)
        object.__setattr__(self, "_inverse", torch.cholesky_inverse(cholesky))

    @classmethod
    def from_description(cls, description: NoiseDescription) -> CoilGaussianNoise:
        """The model that a file describes."""
        description.expect("covariance", optional=("k_dimensions",))
        covariance, axes = description.tensor("covariance"), description.entries.get("k_dimensions", 2)
        if axes not in (2, 3):
            raise InfieldError(
                where="noise 'coil-gaussian'", found=f"k_dimensions {axes!r}", expected="2, or 3 for several slices"
            )
        return cls(covariance, axes)

    def check(self, y: Tensor, observed: Tensor | None = None) -> None:
        super().check(y, observed)
        if observed is not None and (observed != observed[:1, :1]).any():
            raise InfieldError(
                where="measurement",
                found="a k-space sample observed in some coils only",
                expected="all or none of them with correlated coil noise",
            )

    def of_mean(self, count: float) -> CoilGaussianNoise:
        """Of the mean of several data: a covariance so many times smaller."""
        return CoilGaussianNoise(self.covariance / count, self.k_dimensions)

    @property
    def variance(self) -> Tensor:
        return (self.covariance.diagonal().real / 2).reshape(-1, *(1,) * self.k_dimensions)

    @property
    def precision(self) -> Tensor:
        """R^{-1} between the coils, as it acts on complex samples: 2 Psi^{-1}, shape `(N, N)`."""
        return 2 * self._inverse

    def _complex(self, r: Tensor) -> Tensor:
        """The data as complex vectors over coils, (batch, N, samples)."""
        coils = self.covariance.shape[0]
        if r.ndim != 3 + self.k_dimensions or r.shape[1] != 2 or r.shape[2] != coils:
            found = tuple(r.shape)
            raise InfieldError(
                where="noise 'coil-gaussian'",
                found=f"data of shape {found}",
                expected=f"(batch, 2, {coils}) and {self.k_dimensions} k-space axes",
            )
        return torch.view_as_complex(r.movedim(1, -1).contiguous()).flatten(2)

    def _real(self, n: Tensor, like: Tensor) -> Tensor:
        return torch.view_as_real(n.reshape(like[:, 0].shape)).movedim(-1, 1)

    def _whiten(self, r: Tensor) -> Tensor:
        """The complex data with covariance Psi made white: inverse Cholesky factor times n."""
        n = self._complex(r)
        return torch.linalg.solve_triangular(self._cholesky.to(n), n, upper=False)

    def apply(self, r: Tensor) -> Tensor:
        n = self._complex(r)
        return self._real(self.covariance.to(n) @ n / 2, r)

    def solve(self, r: Tensor) -> Tensor:
        n = self._complex(r)
        return self._real(2 * self._inverse.to(n) @ n, r)

    def block(self, index: Tensor, shape: tuple[int, ...]) -> Tensor:
        """R between the data at some flat places of data of a shape, `(places, places)`."""
        part, coil, *place = torch.unravel_index(index, shape)
        psi = self.covariance[coil[:, None], coil] / 2
        turned = part[:, None] - part  # the imaginary part of one beside the real part of the other
        entries = torch.where(turned == 0, psi.real, turned * psi.imag)
        return entries * torch.stack([k[:, None] == k for k in place]).all(0)

    def root(self, w: Tensor) -> Tensor:
        n = self._complex(w)
        return self._real(self._cholesky.to(n) @ n / math.sqrt(2), w)

    def whiten(self, r: Tensor) -> Tensor:
        """Data in which the noise is white and of variance 1: sqrt(2) L^{-1} n with Psi = L L^H, shape of r."""
        return self._real(math.sqrt(2) * self._whiten(r), r)

    def whiten_adjoint(self, r: Tensor) -> Tensor:
        """The adjoint of `whiten`: sqrt(2) L^{-H} n."""
        n = self._complex(r)
        return self._real(math.sqrt(2) * torch.linalg.solve_triangular(self._cholesky.to(n).mH, n, upper=True), r)

    def _shared(self, observed: Tensor | None) -> Tensor | None:
        """Which k-space samples count, (samples,): a sample counts with all of its coils or not at all."""
        return None if observed is None else observed.flatten(2)[0, 0]

    def log_prob(self, y: Tensor, z: Tensor, observed: Tensor | None = None) -> Tensor:
        log_det = 2 * self._cholesky.diagonal().real.log().sum().item() + self._cholesky.shape[0] * math.log(math.pi)
        return -sum_observed(self._whiten(y - z).abs().square().sum(1) + log_det, self._shared(observed))

    def gradient(self, y: Tensor, z: Tensor) -> Tensor:
        return self.solve(y - z)

    def chi_square(self, y: Tensor, z: Tensor, observed: Tensor | None = None) -> Tensor:
        return 2 * sum_observed(self._whiten(y - z).abs().square().sum(1), self._shared(observed))

    def sample(self, z: Tensor, generator: torch.Generator) -> Tensor:
        return z + self.root(standard_normal_like(z, generator))

    def to_json(self) -> dict[str, Any]:
        axes = {} if self.k_dimensions == 2 else {"k_dimensions": self.k_dimensions}
        return {"law": "coil-gaussian", "covariance": "noise_covariance", **axes}

    def arrays(self) -> dict[str, np.ndarray]:
        return {"noise_covariance": self.covariance.numpy(force=True)}
