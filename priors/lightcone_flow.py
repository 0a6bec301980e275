r"""The velocity of lightcones at given parameters, on a stretch of the line of sight: what a sampler sees of the prior.

Fields are values of the voxel transform z less what parameters and distance say of a slice
(`priors.slice_statistics`), x = (z - mu(theta, s)) / sigma(theta, s), of unit variance everywhere. The source is white,
or has the mean spectrum of x (`coloured`), and with p = t^2 + (1 - t)^2

.. math:: v(x, t) = \frac{t - (1 - t)}{p} x + p^{-1/2} F(p^{-1/2} x, t, \theta, \text{profiles}),

so that the network F sees an input and a target of unit variance (Karras et al. 2022, arXiv:2206.00364, section 5).
From a coloured source the first term alone is the exact flow of the Gaussian with that spectrum, whose draws have mean,
contrast and spectrum before anything is learned. White noise has to be taken out of a smooth field to a hundredth of
its amplitude before the small scales of the field are seen; after 51,000 windows there was up to five times too much
power in them.

Profiles are places s, mu and log sigma, the same over a slice: by them, the network knows where along the line of sight
it is, and a stretch of it is as good as the whole.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor

from infield import InfieldError
from infield.priors.covariance import Covariance
from infield.priors.local_unet import LocalUNet
from infield.priors.modes import Hartley
from infield.priors.prior import Standardisation
from infield.priors.spectral_density import SpectralDensity

STRETCH = 128
"""Cells of the line of sight that the network sees at a time, beside its reach on both sides."""


@dataclass(frozen=True)
class Profiles:
    """What parameters and distance say of slices.

    Arguments:
        s: Places, 0 at the nearest cell of the prior's line of sight and 1 at the farthest, shape `(batch, los)`.
        mu, sigma: Of the channels, shape `(batch, channel, los)`.
    """

    s: Tensor
    mu: Tensor
    sigma: Tensor

    @property
    def inputs(self) -> Tensor:
        """For the network, shape `(batch, 1 + 2 channels, los)`."""
        return torch.cat([2 * self.s[:, None] - 1, self.mu, self.sigma.log()], dim=1)


def network_output(network: LocalUNet, z: Tensor, t: Tensor, theta: Tensor, profiles: Profiles) -> Tensor:
    """F of scaled fields z `(batch, channel, x, y, los)`, shape and precision of z."""
    told = profiles.inputs[:, :, None, None].to(z).expand(len(z), -1, *z.shape[2:4], -1)
    return network(torch.cat([z, told], dim=1).float(), t.float(), theta.float()).to(z)


@dataclass(frozen=True, kw_only=True)
class LightconeFlow:
    """Lightcones of one set of parameters on one grid; see `priors.prior.Prior`.

    Arguments:
        name: What a report calls it.
        network: F.
        theta: Parameters in [0, 1], shape `(parameters,)`.
        profiles: Of one cone.
        points: Cells across.
        spectrum: Variances of the Fourier modes of x on a stretch of training, shape `(channel, x, y, los)`.
        coloured: Whether the source has that spectrum; else it is white.
        standardisation: From x to temperature in mK, and to the place of the ionised region.
        units: Of the first channel.
        half: Whether the network runs in bf16, as it was trained.
        sha256: Digest of the file that the prior was read from.
    """

    name: str
    network: LocalUNet
    theta: Tensor
    profiles: Profiles
    points: tuple[int, int]
    spectrum: Tensor
    coloured: bool
    standardisation: Standardisation
    units: str = "mK"
    half: bool = True
    sha256: str = ""

    @property
    def gaussian(self) -> Literal[False]:
        return False

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Of one field, `(channel, x, y, los)`."""
        return (len(self.spectrum), *self.points, self.profiles.s.shape[1])

    @cached_property
    def covariance(self) -> Covariance:
        """Surrogate of the covariance of x, stationary, in Fourier modes; only samplers need it, draws do without."""
        space = self.event_shape[1:]
        return Covariance.diagonal_in(Hartley(3), SpectralDensity(self.spectrum.double()).on(space))

    @cached_property
    def source(self) -> Covariance:
        """C_0."""
        if self.coloured:
            return self.covariance
        return Covariance.diagonal_in(Hartley(3), torch.ones(self.event_shape, dtype=torch.float64))

    @property
    def mean(self) -> Tensor:
        """Zero: the mean of slices is in the standardisation."""
        return torch.zeros(self.event_shape, dtype=torch.float64)

    def velocity(self, x: Tensor, t: float) -> Tensor:
        """v(x, t) for fields `(batch, channel, x, y, los)` at one time 0 <= t < 1; shape, precision and device of x.

        Raises:
            InfieldError: x or y is no multiple of the network's coarsest cell.
        """
        p = t**2 + (1 - t) ** 2
        with torch.set_grad_enabled(x.requires_grad and torch.is_grad_enabled()):  # never for the weights alone
            return (2 * t - 1) / p * x + p**-0.5 * self._learned(p**-0.5 * x, t)

    def _learned(self, z: Tensor, t: float) -> Tensor:
        """F, stretch by stretch, each with the cells beyond it that it can feel."""
        multiple, reach, depth = self.network.multiple, self.network.reach, z.shape[-1]
        if any(n % multiple for n in z.shape[2:4]):
            raise InfieldError(
                f"lightcones: found {z.shape[2]} x {z.shape[3]} cells across, expected multiples of {multiple}"
            )
        parts = []
        for start in range(0, depth, STRETCH):
            stop = min(start + STRETCH, depth)
            low, high = max(start - reach, 0), min(stop + reach, depth)
            parts.append(self._stretch(z[..., low:high], t, slice(low, high))[..., start - low : stop - low])
        return torch.cat(parts, dim=-1)

    def _stretch(self, z: Tensor, t: float, cells: slice) -> Tensor:
        device = next(self.network.parameters()).device
        profiles = Profiles(*(part[..., cells].to(device) for part in vars(self.profiles).values()))
        missing = -z.shape[-1] % self.network.multiple  # at the far end only: the last slices once more
        if missing:
            z = torch.cat([z, z[..., -1:].expand(*z.shape[:-1], missing)], dim=-1)
            profiles = Profiles(
                *(torch.cat([p, p[..., -1:].expand(*p.shape[:-1], missing)], -1) for p in vars(profiles).values())
            )
        n = len(z)
        theta, times = self.theta.to(device).expand(n, -1), torch.full((n,), t, device=device)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.half):
            learned = network_output(self.network, z.to(device), times, theta, profiles).to(z)
        return learned[..., : learned.shape[-1] - missing]

    def to(self, device: torch.device | str) -> LightconeFlow:
        """The same prior with its network on another device; fields stay where they are."""
        return replace(self, network=self.network.to(device))
