"""Initial condition of a turbulent channel flow: a turbulent mean profile, and random waves that sustain it."""

from __future__ import annotations

import torch
from torch import Tensor

from infield.physics.wall_pressure.channel.channel_statistics import plane_mean
from infield.physics.wall_pressure.channel.solver import ChannelFlowSolver, ChannelState

KARMAN, DAMPING = 0.426, 25.4
"""Constants of Cess's viscosity, from del Alamo & Jimenez 2006, J. Fluid Mech. 559, 205."""

DECAY_LENGTH_PLUS = 20.0
"""Waves of wave number 1 / DECAY_LENGTH_PLUS in wall units have 1 / e of the amplitude of the longest ones."""


def mean_profile(channel: ChannelFlowSolver) -> Tensor:
    """Mean velocity of a turbulent flow in units of u_tau, with Cess's eddy viscosity, shape `(ny,)`."""
    c, re = channel.chebyshev, 1 / channel.viscosity
    wall = 1 - c.y.abs()
    damping = 1 - torch.exp(-wall * re / DAMPING)
    square = (KARMAN * re / 3 * (2 * wall - wall**2) * (3 - 4 * wall + 2 * wall**2) * damping) ** 2
    slope = -re * c.y / (0.5 + 0.5 * torch.sqrt(1 + square))
    return c.solve(c.first @ slope, torch.zeros((), dtype=torch.float64, device=slope.device))


def turbulent_start(
    channel: ChannelFlowSolver, generator: torch.Generator, strength: float = 1.0, time: float = 0.0
) -> ChannelState:
    """A flow in wall units that becomes turbulent: the mean profile and divergence-free random waves.

    Arguments:
        channel: The solver, with forcing 1 and viscosity 1 / Re_tau.
        generator: Generator of the waves.
        strength: Size of the waves: 1 for v of 1 u_tau and streaks of u of some 3 u_tau.
        time: Time of the state.
    """
    nx, _, nz = channel.points
    y = channel.chebyshev.y[:, None, None]
    white = torch.randn(2, 4, nz, nx, generator=generator, dtype=torch.float64)
    waves = channel.amplitudes(white.to(channel.device)) * torch.exp(
        -channel.k2 * (DECAY_LENGTH_PLUS * channel.viscosity) ** 2
    )
    powers = channel.chebyshev.y[:, None] ** torch.arange(4, device=y.device)
    v, g = torch.einsum("yp,apzx->ayzx", powers.to(waves.dtype), waves * channel.wave)
    v, g = v * (1 - y**2) ** 2, g * (1 - y**2) * channel.kz[:, None] ** 2  # streaks along x
    v, g = (f * size / plane_mean(part, part).amax().sqrt() for f, part, size in ((v, v, 1), (g, channel.jz * g, 3)))
    mean = mean_profile(channel)
    return channel.state(strength * v, strength * g, torch.stack([mean, torch.zeros_like(mean)]), time)
