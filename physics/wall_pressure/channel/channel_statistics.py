"""Plane averages of a channel flow and its balance of energy, from the amplitudes by Parseval's theorem."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from infield.physics.wall_pressure.channel.solver import ChannelFlowSolver, ChannelState


@dataclass(frozen=True)
class PlaneMeans:
    """Averages over planes of constant y at one time, and over the walls.

    Arguments:
        u: Mean velocity, `(ny,)`.
        uu, vv, ww, uv: Covariances about the means of the planes, `(ny,)`.
        wall_shear: Force of the flow on the lower and the upper wall, `(2,)`; in the long run its mean is the forcing.
    """

    u: Tensor
    uu: Tensor
    vv: Tensor
    ww: Tensor
    uv: Tensor
    wall_shear: Tensor


def plane_mean(a: Tensor, b: Tensor) -> Tensor:
    """Mean of a product over planes, of two fields by their amplitudes `(*, kz, kx)`, shape `*`."""
    product = (a * b.conj()).real.sum(-2)
    return 2 * product.sum(-1) - product[..., 0]


def plane_means(channel: ChannelFlowSolver, state: ChannelState) -> PlaneMeans:
    """The averages at the time of the state."""
    u, v, w = channel.spectra(state)[:3]
    mean = u[:, 0, 0].real.clone()
    u[:, 0, 0], w[:, 0, 0] = 0, 0
    shear = channel.viscosity * (channel.chebyshev.end_slopes @ state.mean[0]) * torch.tensor([1, -1]).to(u.device)
    uu, vv, ww, uv = (plane_mean(a, b) for a, b in ((u, u), (v, v), (w, w), (u, v)))
    return PlaneMeans(mean, uu, vv, ww, uv, shear)


@dataclass(frozen=True)
class Energy:
    """Kinetic energy over a unit of wall, and what driving force and friction add to it and take in a unit of time."""

    kinetic: float
    gained: float
    lost: float


def energy(channel: ChannelFlowSolver, state: ChannelState) -> Energy:
    """The balance of energy: d kinetic / dt = gained - lost."""
    spectra, weights = channel.spectra(state), channel.chebyshev.weights
    squares = plane_mean(spectra, spectra)
    kinetic, enstrophy = (float(weights @ part.sum(0)) for part in (squares[:3] / 2, squares[3:]))
    return Energy(kinetic, channel.forcing * float(weights @ spectra[0, :, 0, 0].real), channel.viscosity * enstrophy)
