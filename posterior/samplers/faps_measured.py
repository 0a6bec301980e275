r"""Flow annealing posterior sampling with a local conditional that was measured.

The algorithm of `posterior.samplers.faps` (Shi, Ross & Yue 2026, arXiv 2606.22346, with the mean of x_1 | x_t from one
call of the velocity), for linear data with Gaussian noise; the Gaussian surrogate of the covariance of x_1
| x_t is replaced by that of `posterior.inference.denoiser_errors`, which depends on the position in the image; for
Gaussian priors both are the same.

With K = S S^T, a draw of N(m, K) p(y | x_1) is u + S (1 + S^T A^T R^{-1} A S)^{-1} S^T A^T R^{-1} (y + eta - A u),
u ~ N(m, K), as in `posterior.inference.linear_gaussian`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import ClassVar

import torch
from torch import Tensor

from infield.core.errors import InfieldError
from infield.core.randomness import Randomness, normal
from infield.physics.measurement import Measurement
from infield.posterior.inference.conjugate_gradients import conjugate_gradients
from infield.posterior.inference.denoiser_errors import DenoiserErrorModel, ModulatedCovariance
from infield.posterior.inference.langevin import check_finite
from infield.posterior.inference.linear_gaussian import BATCH_ENTRIES, LinearGaussianData
from infield.posterior.samplers.base import Draws, Sampler
from infield.priors.base import FlowPrior, denoise


@dataclass(frozen=True, kw_only=True)
class FAPSMeasured(Sampler):
    """FAPS with a measured local conditional, for linear operators and Gaussian noise.

    Arguments:
        law: Of this prior; its times are the levels, the first of them 0.
        widening: Factor on the covariance of the local conditional. Above 1 the data are trusted more against a
            denoiser that errs more on the way to a posterior than on noised fields.
        tolerance: Of conjugate gradients, in standard deviations of the local posterior, root mean square.
    """

    law: DenoiserErrorModel
    widening: float = 1.0
    tolerance: float = 0.1

    method: ClassVar[str] = "faps-measured"

    def __post_init__(self) -> None:
        if not (self.widening > 0 and self.tolerance > 0):
            raise InfieldError(
                where=f"sampler {self.method}",
                found=f"widening={self.widening}, tolerance={self.tolerance}",
                expected="positive numbers",
            )
        if not self.law.times or self.law.times[0] != 0:
            raise InfieldError(
                where=f"sampler {self.method}", found=f"times {self.law.times}", expected="a law from t = 0 on"
            )

    def draw(self, prior: FlowPrior, measurement: Measurement, n: int, generator: Randomness) -> Draws:
        C_0, times = prior.source, (*self.law.times, 1.0)
        data = LinearGaussianData(measurement, prior.covariance.modes)

        def white(shape: tuple[int, ...] = C_0.event_shape) -> Tensor:
            return normal(generator, n, shape, C_0.diagonal.device)

        def source() -> Tensor:
            return C_0.colour(white())

        u_t = u_1 = source()
        for k, (t, t_next) in enumerate(pairwise(times)):
            m = denoise(prior, u_t, t)  # E[u_1 | u_t]
            check_finite(m, generator, f"in the prior's estimate, level {k} of {len(times) - 1}")
            K = self.law.at(k, m, prior.covariance.modes)
            K = replace(K, deviation=K.deviation * self.widening**0.5)
            u = m + K.root(K.modes.white(white()))
            eta = data.noise.root(white(tuple(data.observed.shape)))
            r = torch.where(data.observed, data.misfit(u) + eta, 0.0)
            u_1 = u + correction(data, K, r, self.tolerance)  # N(u_1; m, K) p(y | u_1)
            if t_next < 1:
                u_t = t_next * u_1 + (1 - t_next) * source()  # bridge to the next level
        return Draws(u_1)


def correction(data: LinearGaussianData, K: ModulatedCovariance, r: Tensor, tolerance: float) -> Tensor:
    """K A^T (A K A^T + R)^{-1} r for r of shape `(batch, *data)`, by conjugate gradients, few fields at a time."""
    few = max(BATCH_ENTRIES // math.prod(r.shape[1:]), 1)
    parts = zip(r.split(few), K.deviation.split(few), strict=True)
    return torch.cat([_solve(data, replace(K, deviation=deviation), part, tolerance) for part, deviation in parts])


def _solve(data: LinearGaussianData, K: ModulatedCovariance, r: Tensor, tolerance: float) -> Tensor:
    shape = (len(r), *data.measurement.event_shape)

    def normal_operator(w: Tensor) -> Tensor:
        field = K.root(w.reshape(shape))
        seen = data.mask_unobserved(data.measurement.operator.A(field))
        return w + K.root_transposed(data.adjoint(data.noise.solve(seen))).flatten(1)

    variance = K.deviation.square().flatten(1).mean(1)
    diagonal = 1 + variance[:, None] * (K.spectrum * data.information.reshape(shape[1:])).flatten()
    right = K.root_transposed(data.adjoint(data.noise.solve(r))).flatten(1)
    w = conjugate_gradients(normal_operator, right, tolerance, data.max_iterations, diagonal=diagonal)
    return K.root(w.reshape(shape))
