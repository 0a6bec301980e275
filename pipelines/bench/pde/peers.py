"""Samplers of other libraries and papers on a prior of functions, each with the operator of a measurement.

All but FAPS support white noise only. So they work on the field in the coordinates that whiten the source, u =
C_0^{-1/2} x: there the source is white, u_t / t = u_1 + sigma eps with sigma = (1 - t) / t is their diffusion, and A
C_0^{1/2} their operator (`posterior.interop.deepinv`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Generator, Tensor

from infield.pipelines.bench.deepinv_peers import posterior_diffusion
from infield.posterior.interop.deepinv import DeepinvDenoiser, to_physics
from infield.posterior.interop.deepinv import WhitenedProblem as WhitenedProblem


def deepinv_diffusion(
    guidance: str, problem: WhitenedProblem, n: int, seed: int, steps: int, *, weight: float = 1.0
) -> Tensor:
    """deepinv's PosteriorDiffusion under a variance-exploding diffusion, Euler steps.

    Arguments:
        guidance: "moment-matching" (Rozet et al. 2024; linear operators), or of DPS (Chung et al. 2023) "norm" or
            "annealed".
        problem: What is sampled.
        n: Draws.
        seed: deepinv's own.
        steps: Of the solver.
        weight: Of the guidance.

    Returns:
        Draws in whitened coordinates, shape `(n, channel, *space)`.
    """
    import deepinv

    sampling = deepinv.sampling
    network = DeepinvDenoiser(problem.denoise)
    if guidance == "moment-matching":
        fidelity = sampling.MomentMatchingDataFidelity(network, weight=weight, cg_max_iter=3)
    else:
        fidelity = sampling.DPSDataFidelity(denoiser=network, guidance=guidance, weight=weight)
    model = posterior_diffusion(fidelity, network, steps)
    physics = to_physics(problem)
    y = problem.y.to(torch.float32).repeat(n, *[1] * (problem.y.ndim - 1))
    return model(y, physics, x_init=(n, *problem.shape), seed=seed).detach().to(torch.float64)


def azula_mmps(problem: WhitenedProblem, n: int, seed: int, steps: int) -> Tensor:
    """azula's moment-matching posterior sampler, three GMRES iterations, DDPM steps, variance-preserving schedule."""
    from azula.guidance.mmps import MMPSDenoiser
    from azula.linalg.covariance import IsotropicCovariance
    from azula.sample import DDPMSampler

    guided = MMPSDenoiser(
        _azula_denoiser(problem),
        problem.y,
        problem.A,
        IsotropicCovariance(torch.tensor(problem.noise_std**2, dtype=torch.float64)),
        iterations=3,
    )
    return _azula_draws(DDPMSampler(guided, steps=steps, silent=True), problem, n, seed)


def azula_tds(problem: WhitenedProblem, n: int, seed: int, steps: int) -> Tensor:
    """azula's twisted sequential Monte Carlo (Wu et al. 2023) with as many particles as draws.

    The twist is the user's to give: N(y; A u_hat, R + N/4 sigma^2 / (sigma^2 + s)), s the largest variance of a
    whitened mode. The normalised solution has variance 1/4; without N, the number of data, which bounds the largest
    eigenvalue of their covariance, smooth solutions count once a datum, and it diverged in every case that was tried.
    """
    from azula.guidance.tds import TDSSampler

    def twist(u_hat: Tensor, sigma: Tensor) -> Tensor:
        left = 0.25 * problem.y[0].numel() * sigma**2 / (sigma**2 + problem.largest_variance)
        return -0.5 * (problem.y - problem.A(u_hat)).square() / (problem.noise_std**2 + left)

    return _azula_draws(TDSSampler(_azula_denoiser(problem), twist, steps=steps, silent=True), problem, n, seed)


def _azula_denoiser(problem: WhitenedProblem) -> Any:
    import azula.denoise
    import azula.noise

    class Learned(azula.denoise.Denoiser):
        def __init__(self) -> None:
            super().__init__()
            self.schedule = azula.noise.VPSchedule()

        def forward(self, x_t: Tensor, t: Tensor, **kwargs: object) -> azula.denoise.DiracPosterior:
            alpha, sigma = self.schedule(t)
            return azula.denoise.DiracPosterior(problem.denoise(x_t / alpha, sigma / alpha))

    return Learned()


def _azula_draws(sampler: Any, problem: WhitenedProblem, n: int, seed: int) -> Tensor:
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # azula has no generator argument
        return sampler(sampler.init((n, *problem.shape)).to(torch.float64)).detach()


def flow_dps(problem: WhitenedProblem, n: int, seed: int, steps: int, *, updates: int = 3) -> Tensor:
    r"""FlowDPS (Kim, Kim & Ye 2025, "Flow-Driven Posterior Sampling for Inverse Problems", arXiv 2503.08136).

    The flow is split into its estimates of u_1 and u_0. Gradient steps on |y - A u_1|^2 / 2 move the first, weighted by
    1 - t; part of the second is drawn anew: :math:`u_0 \to \sqrt{1 - t'} u_0 + \sqrt{t'} \epsilon`. The length of the
    gradient steps, theirs to tune, is 1 / |J|^2 at the mean of the prior. No derivative of the velocity is taken.
    """
    generator = Generator().manual_seed(seed)

    def normal() -> Tensor:
        return torch.randn((n, *problem.shape), generator=generator, dtype=torch.float64)

    u, length = normal(), 1 / _largest_eigenvalue(problem, generator)
    for k in range(steps):
        t, t_next = k / steps, (k + 1) / steps
        v = problem.velocity(u, t)
        u_1, u_0 = u + (1 - t) * v, u - t * v
        moved = u_1
        for _ in range(updates):
            moved = moved - length * problem.A_vjp(moved, problem.A(moved) - problem.y)
        u_1 = t * u_1 + (1 - t) * moved
        u_0 = (1 - t_next) ** 0.5 * u_0 + t_next**0.5 * normal()
        u = t_next * u_1 + (1 - t_next) * u_0
    return u


def _largest_eigenvalue(problem: WhitenedProblem, generator: Generator, iterations: int = 12) -> float:
    """Of J^T J at the mean of the prior, by power iteration."""
    at = problem.whiten(problem.prior.mean[None])
    z = problem.A(at)
    v = torch.randn((1, *problem.shape), generator=generator, dtype=torch.float64)
    norm = 1.0
    for _ in range(iterations):
        v = v / v.norm()
        w = problem.A_vjp(at, (problem.A(at + 1e-3 * v) - z) / 1e-3)
        norm, v = float(w.norm()), w
    return norm


Peer = Callable[[WhitenedProblem, int, int, int], Tensor]
"""(problem, draws, seed, steps) -> draws in whitened coordinates."""
