"""Integrators of dx/dt = v(x, t) beside which `infield bench steps` measures that of `priors.integrator`.

Each takes fields at t = 0 and a number of velocity calls, and never evaluates the velocity at t = 1.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from infield.priors.base import FlowPrior, denoise


def heun(prior: FlowPrior, x: Tensor, times: Sequence[float]) -> Tensor:
    """Heun's method over increasing times, a step to t = 1 by Euler's; shape of x. 2 steps - 1 calls."""
    for t, t_next in pairwise(times):
        v = prior.velocity(x, t)
        if t_next < 1:
            v = (v + prior.velocity(x + (t_next - t) * v, t_next)) / 2
        x = x + (t_next - t) * v
    return x


def midpoint(prior: FlowPrior, x: Tensor, times: Sequence[float]) -> Tensor:
    """The explicit midpoint rule, 2 steps calls; shape of x."""
    for t, t_next in pairwise(times):
        h = t_next - t
        x = x + h * prior.velocity(x + h / 2 * prior.velocity(x, t), t + h / 2)
    return x


def dpm_solver(prior: FlowPrior, x: Tensor, times: Sequence[float]) -> Tensor:
    """DPM-Solver++(2M) of Lu et al. 2022 (arXiv 2211.01095, algorithm 2) in log(t / (1 - t)); shape of x. Its first
    step, from t = 0, and its last are of first order; one call a step."""
    before, width = None, 0.0
    for t, t_next in pairwise(times):
        m = denoise(prior, x, t)
        if t_next == 1:
            return m
        s, s_next = 1 - t, 1 - t_next
        h = math.log(t_next / s_next) - math.log(t / s) if t > 0 else math.inf
        D = m if before is None or math.isinf(width) else m + (m - before) * h / (2 * width)
        x = s_next / s * x + (t_next - t * s_next / s) * D
        before, width = m, h
    return x


def uniform(steps: int) -> list[float]:
    """Times 0, 1 / steps ... 1."""
    return torch.linspace(0, 1, steps + 1, dtype=torch.float64).tolist()


def close_at_ends(steps: int) -> list[float]:
    """Times sin^2(pi i / (2 steps))."""
    return torch.linspace(0, math.pi / 2, steps + 1, dtype=torch.float64).sin().square().tolist()
