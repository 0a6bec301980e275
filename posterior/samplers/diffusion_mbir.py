r"""DiffusionMBIR: a prior of slices by predictor and corrector, total variation across slices, one sweep a level.

Chung, Ryu, McCann, Klasky & Ye 2023, "Solving 3D Inverse Problems using Pre-trained 2D Diffusion Models" (arXiv
2211.10655), on the variance-exploding diffusion of Song et al. 2021 (arXiv 2011.13456, algorithm 2).

| paper, code | here |
| --- | --- |
| x = x_0 + sigma eps, sigma downwards | z = x_t / t = x_1 + sigma x_0, sigma = (1 - t) / t |
| score s | C_0^{-1} (E[x_1 | x_t] - z) / sigma^2, in the source's colour C_0 s |
| N, sigma_max, sigma_min, r of the corrector | `levels`, `sigma_max`, `sigma_min`, `snr` |
| lambda, rho | `tv`, `penalty`, the authors' for magnetic resonance, where A^T A is a projection |

As in the paper the data and the total variation act on the noisy z itself, by one step of conjugate gradients. Norms
in the corrector are those of each volume, not of the batch, so that a sample is independent of the batch. The
authors' last step, which divides by A^T A 1, is left out: not every operator has one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from infield.core.errors import InfieldError
from infield.core.randomness import Randomness, normal
from infield.physics.measurement import Measurement
from infield.posterior.inference.total_variation import CAVEAT, across_slices
from infield.posterior.samplers.base import Draws, Sampler
from infield.priors.base import FlowPrior, denoise


@dataclass(frozen=True, kw_only=True)
class DiffusionMBIR(Sampler):
    """DiffusionMBIR, for linear operators and Gaussian noise, with a prior of slices (`priors.flows.slices`); slow.

    Arguments:
        levels: N; two velocity evaluations of each slice a level.
        sigma_max, sigma_min: Noise levels in standardised units, in geometric steps.
        snr: r, length of the corrector's steps.
        tv: lambda, of the total variation across slices, as a fraction of the information of a datum on the field.
        penalty: rho of ADMM, likewise.
    """

    levels: int = 2000
    sigma_max: float = 100.0
    sigma_min: float = 0.01
    snr: float = 0.16
    tv: float = 0.005
    penalty: float = 0.01

    method: ClassVar[str] = "diffusion-mbir"
    caveat: ClassVar[str | None] = CAVEAT

    def __post_init__(self) -> None:
        if self.levels < 2 or not 0 < self.sigma_min < self.sigma_max or not self.snr >= 0:
            raise InfieldError(
                where="sampler diffusion-mbir",
                found=f"levels={self.levels}, sigma_min={self.sigma_min}, sigma_max={self.sigma_max}, snr={self.snr}",
                expected="at least 2 levels, 0 < sigma_min < sigma_max and snr of at least 0",
            )
        if not self.tv >= 0 or not self.penalty > 0:
            raise InfieldError(
                where="sampler diffusion-mbir",
                found=f"tv={self.tv}, penalty={self.penalty}",
                expected="tv of at least 0 and a penalty above 0",
            )

    @property
    def block(self) -> int:
        """One volume at a time."""
        return 1

    def draw(self, prior: FlowPrior, measurement: Measurement, n: int, generator: Randomness) -> Draws:
        N, C_0 = self.levels, prior.source
        volume = across_slices(self.method, prior, measurement, self.tv, self.penalty)
        volume.tv, volume.penalty = (volume.curvature * value for value in (self.tv, self.penalty))
        ratio = (self.sigma_min / self.sigma_max) ** (1 / (N - 1))
        sigmas = [self.sigma_max * ratio**i for i in range(N)]

        def coloured(white: Tensor) -> Tensor:
            return C_0.colour(white)

        def noise() -> Tensor:
            return normal(generator, n, C_0.event_shape, C_0.diagonal.device)

        def step(z: Tensor, sigma: float) -> Tensor:
            """sigma^2 C_0 s."""
            t = 1 / (1 + sigma)
            return denoise(prior, t * z, t) - z

        z = sigmas[0] * coloured(noise())
        for sigma, sigma_next in zip(sigmas, [*sigmas[1:], 0.0], strict=True):
            fall = 1 - (sigma_next / sigma) ** 2
            z = z + fall * step(z, sigma)  # predictor: reverse diffusion
            if sigma_next > 0:
                z = z + sigma * fall**0.5 * coloured(noise())
                xi, d = noise(), step(z, sigma_next)
                score = C_0.modes.analyse(d) / C_0.diagonal.sqrt() / sigma_next**2  # white, C_0^{1/2} s
                length = 2 * (self.snr * norm(xi) / norm(score)) ** 2
                z = z + length / sigma_next**2 * d + coloured((2 * length).sqrt() * xi)  # corrector: Langevin
            z = volume.sweep(z, 1)
        return Draws(z)


def norm(x: Tensor) -> Tensor:
    """Of each volume, shape `(batch, 1, ...)`."""
    return torch.linalg.vector_norm(x.flatten(1), dim=1).reshape(-1, *[1] * (x.ndim - 1))
