"""Samplers of other libraries, each called as its own documentation calls it, on the same denoiser and data.

All of them are formulated for x + sigma noise, white: their denoiser is D(x, sigma) = E[x_0 | x_0 + sigma eps = x].
"""

from __future__ import annotations

import torch
from torch import Tensor

from infield.core.torchvision_remedy import import_torchvision_first
from infield.pipelines.bench.deepinv_peers import posterior_diffusion
from infield.posterior.interop.deepinv import DeepinvDenoiser, Denoiser


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
    from infield.core._deepinv import deepinv

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
    import_torchvision_first()  # azula imports it
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
