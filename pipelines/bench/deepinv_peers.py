"""deepinv's own samplers on a prior of ours, each called as its documentation calls it.

A peer is called as `peer(problem, draws, seed, steps)` and gives draws in the problem's coordinates; see
`posterior.interop.deepinv`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from infield.posterior.interop.deepinv import (
    DeepinvDenoiser,
    UnitRange,
    WhitenedProblem,
    to_decomposable_physics,
    to_physics,
)


def posterior_diffusion(fidelity: Any, network: Any, steps: int) -> Any:
    """deepinv's `PosteriorDiffusion` in the setting of all our comparisons: variance-exploding, Euler steps."""
    from infield.core._deepinv import deepinv

    sampling = deepinv.sampling

    return sampling.PosteriorDiffusion(
        data_fidelity=fidelity,
        denoiser=network,
        sde=sampling.VarianceExplodingDiffusion(sigma_max=20.0, sigma_min=0.002, alpha=1.0, minus_one_one=False),
        solver=sampling.EulerSolver(timesteps=torch.linspace(1, 1e-3, steps), rng=torch.Generator()),
        minus_one_one=False,
    )


def dps(problem: UnitRange, n: int, seed: int, steps: int = 1000, *, weight: float = 1.0) -> Tensor:
    """DPS (Chung et al. 2023): variance-preserving, ancestral steps, the residual's norm; shape `(n, *shape)`.

    Arguments:
        problem: In [0, 1].
        n: Draws.
        seed: deepinv's own.
        steps: Of the solver; one evaluation and its derivative each.
        weight: Of the guidance, theirs to tune.
    """
    from deepinv.sampling import DPS

    rng = torch.Generator()
    model = DPS(DeepinvDenoiser(problem.denoise), num_steps=steps, weight=weight, dtype=torch.float32, rng=rng)
    return model(_data(problem, n), to_physics(problem), x_init=(n, *problem.shape), seed=seed).detach().double()


def diffpir(problem: UnitRange, n: int, seed: int, steps: int = 100, *, solver_steps: int = 50) -> Tensor:
    """DiffPIR (Zhu et al. 2023), with its defaults and the noise of the data; shape `(n, *shape)`.

    It starts from the adjoint of the data, which is of the size of an image for orthonormal rows alone; so it is given
    the prior's mean in its place.

    Arguments:
        problem: In [0, 1].
        n: Draws.
        seed: Of torch's own generator.
        steps: Evaluations of the denoiser.
        solver_steps: At most so many of conjugate gradients in each step towards the data; 50 are deepinv's.
    """
    from deepinv.optim import L2
    from deepinv.sampling import DiffPIR

    model = DiffPIR(DeepinvDenoiser(problem.denoise), L2(), sigma=problem.noise_std, max_iter=steps)
    with torch.random.fork_rng():
        torch.manual_seed(seed)  # it has no generator argument, and takes seed 0 for none
        start = torch.full((n, *problem.shape), 0.5)
        physics = to_physics(problem)
        physics.max_iter = solver_steps
        return model(_data(problem, n), physics, x_init=start).detach().double()


def ddrm(problem: UnitRange, n: int, seed: int, steps: int = 100) -> Tensor:
    """DDRM (Kawar et al. 2022), with its defaults, by the singular values of the operator; shape `(n, *shape)`."""
    from deepinv.sampling import DDRM

    model = DDRM(DeepinvDenoiser(problem.denoise), sigmas=np.linspace(1, 0, steps))
    physics = to_decomposable_physics(problem)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return model(_data(problem, n), physics).detach().double()


def moment_matching(problem: WhitenedProblem, n: int, seed: int, steps: int = 100) -> Tensor:
    """PosteriorDiffusion with moment matching (Rozet et al. 2024), three steps of conjugate gradients."""
    from deepinv.sampling import MomentMatchingDataFidelity

    network = DeepinvDenoiser(problem.denoise)
    model = posterior_diffusion(MomentMatchingDataFidelity(network, cg_max_iter=3), network, steps)
    return model(_data(problem, n), to_physics(problem), x_init=(n, *problem.shape), seed=seed).detach().double()


def _data(problem: WhitenedProblem | UnitRange, n: int) -> Tensor:
    return problem.y.to(torch.float32).repeat(n, *[1] * (problem.y.ndim - 1))
