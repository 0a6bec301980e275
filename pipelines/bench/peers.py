"""Samplers of other libraries, each called as its own documentation calls it, on the same denoiser and data.

All of them speak of x + sigma noise, white: their denoiser is D(x, sigma) = E[x_0 | x_0 + sigma eps = x].
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from infield import import_torchvision_first

Denoiser = Callable[[Tensor, Tensor], Tensor]


class DeepinvDenoiser(torch.nn.Module):
    """A denoiser in the form in which deepinv calls one: sigma a number or one a batch element.

    Arguments:
        denoise: (x, sigma) -> E[x_0 | x], x of shape `(batch, 1, 1, points)`, sigma of shape `(batch, 1, 1, 1)`.
    """

    def __init__(self, denoise: Denoiser) -> None:
        super().__init__()
        self.denoise = denoise

    def forward(self, x: Tensor, sigma: Tensor | float | None = None, *args: object, **kwargs: object) -> Tensor:
        s = torch.as_tensor(sigma, dtype=x.dtype)
        s = s.expand(x.shape[0]) if s.ndim == 0 else s
        return self.denoise(x, s.reshape(-1, 1, 1, 1).expand(len(x), 1, 1, 1))


def deepinv_posterior_diffusion(
    guidance: str, denoise: Denoiser, y: Tensor, mask: Tensor, noise_std: float, n: int, seed: int, steps: int = 100
) -> Tensor:
    """deepinv's PosteriorDiffusion under a variance-exploding diffusion, Euler steps.

    Arguments:
        guidance: "moment-matching" (Rozet et al. 2024) or "dps" (Chung et al. 2023).
        denoise: The exact denoiser.
        y: Data on the whole grid, zero where there are none, shape `(points,)`.
        mask: Where there are data, shape `(points,)`.
        noise_std: Standard deviation of the noise.
        n: Draws.
        seed: deepinv's own seed.
        steps: Solver steps, one or more denoiser calls each.

    Returns:
        Draws, shape `(n, points)`.
    """
    import_torchvision_first()
    import deepinv

    sampling, N = deepinv.sampling, y.numel()
    network = DeepinvDenoiser(denoise)
    physics = deepinv.physics.Inpainting(
        img_size=(1, 1, N),
        mask=mask.reshape(1, 1, N).to(torch.float32),
        noise_model=deepinv.physics.GaussianNoise(noise_std),
    )
    if guidance == "moment-matching":
        fidelity = sampling.MomentMatchingDataFidelity(network, cg_max_iter=3)
    else:
        fidelity = sampling.DPSDataFidelity(denoiser=network)
    model = posterior_diffusion(fidelity, network, steps)
    y = y.to(torch.float32)
    return model(y.reshape(1, 1, 1, N).repeat(n, 1, 1, 1), physics, seed=seed).detach().reshape(n, N).to(torch.float64)


def posterior_diffusion(fidelity: Any, network: Any, steps: int) -> Any:
    """deepinv's `PosteriorDiffusion` in the setting of all our comparisons: variance-exploding, Euler steps."""
    from deepinv import sampling

    return sampling.PosteriorDiffusion(
        data_fidelity=fidelity,
        denoiser=network,
        sde=sampling.VarianceExplodingDiffusion(sigma_max=20.0, sigma_min=0.002, alpha=1.0, minus_one_one=False),
        solver=sampling.EulerSolver(timesteps=torch.linspace(1, 1e-3, steps), rng=torch.Generator()),
        minus_one_one=False,
    )


def azula_mmps(
    denoise: Denoiser, y: Tensor, index: Tensor, noise_std: float, n: int, N: int, steps: int = 100
) -> Tensor:
    """azula's moment-matching posterior sampler, three GMRES iterations, DDPM steps on the variance-preserving
    schedule.

    Arguments:
        denoise: The exact denoiser.
        y: Data, shape `(data,)`.
        index: Their places among the N points, shape `(data,)`.
        noise_std: Standard deviation of the noise.
        n: Draws.
        N: Points.
        steps: Denoiser calls along the diffusion (each with three vector-Jacobian products).

    Returns:
        Draws, shape `(n, N)`. azula draws from torch's global generator: seed that one.
    """
    import_torchvision_first()
    import azula.denoise
    import azula.noise
    import azula.sample
    from azula.guidance.mmps import MMPSDenoiser
    from azula.linalg.covariance import IsotropicCovariance

    class Exact(azula.denoise.Denoiser):
        def __init__(self, schedule: azula.noise.Schedule) -> None:
            super().__init__()
            self.schedule = schedule

        def forward(self, x_t: Tensor, t: Tensor, **kwargs: object) -> azula.denoise.DiracPosterior:
            alpha, sigma = self.schedule(t)
            x = (x_t / alpha).reshape(-1, 1, 1, N)
            s = torch.as_tensor(sigma / alpha, dtype=x.dtype).reshape(-1, 1, 1, 1).expand(len(x), 1, 1, 1)
            return azula.denoise.DiracPosterior(denoise(x, s).reshape(x_t.shape))

    guided = MMPSDenoiser(
        Exact(azula.noise.VPSchedule()),
        y,
        lambda x: x[..., index],
        IsotropicCovariance(torch.tensor(noise_std**2, dtype=y.dtype)),
        iterations=3,
    )
    sampler = azula.sample.DDPMSampler(guided, steps=steps, silent=True)
    return sampler(sampler.init((n, N)).to(y.dtype)).detach()
