r"""The velocity of lightcones at given parameters, on a segment of the line of sight: the prior as samplers use it.

Values z of the voxel transform have a mean and a standard deviation that depend on parameters and distance
(`priors.cm21.slice_statistics`), x = (z - mu(theta, s)) / sigma(theta, s), and spectra (`priors.cm21.slice_spectra`).
The flow is one of the innovations xi of x under these spectra (`priors.cm21.whitening`), x = S xi, from white noise to
those of the simulator; with p = t^2 + (1 - t)^2

.. math:: v(\xi, t) = \frac{t - (1 - t)}{p} \xi + p^{-1/2} F(p^{-1/2} \xi, p^{-1/2} S \xi, t, \theta, \text{profiles}),

so that the network F has inputs and a target of unit variance (Karras et al. 2022, arXiv:2206.00364, section 5), at
every scale; to its output comes a linear part that it misses (`priors.cm21.linear_correction`). The first term alone is
the exact flow of a Gaussian lightcone, whose draws have mean, contrast and spectra before anything is learned: what F
learns is what is not Gaussian. What power draws are still short of, or have too much of, is measured on draws at the
parameters of training; fields in units are made by spectra from which that is taken out. White noise in the place of x
would hide small scales where the field is smooth, and after 51,000 windows there was up to five times too much power in
them.

Profiles are places s, mu, log sigma and how many slices innovations are given, the same over a slice: by them, the
network is conditioned on the position along the line of sight, and a segment is treated as the whole.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar, Literal

import torch
from torch import Tensor

from infield.core.errors import InfieldError
from infield.priors.cm21.linear_correction import LinearCorrection, of_field
from infield.priors.cm21.whitening import BLOCK, VecchiaWhitening, WhiteningTransform
from infield.priors.covariance.base import Covariance
from infield.priors.covariance.modes import HartleyAcross
from infield.priors.networks.local_unet import LocalUNet

STRETCH = 128
"""Cells of the line of sight per network call, in addition to its receptive radius on both sides."""


@dataclass(frozen=True)
class Profiles:
    """Properties of slices that depend on parameters and distance.

    Arguments:
        s: Places, 0 at the nearest cell of the prior's line of sight and 1 at the farthest, shape `(batch, los)`.
        mu, sigma: Mean and standard deviation of the channels, shape `(batch, channel, los)`.
        before: Number of preceding slices on which the innovations of a slice are conditioned, shape `(batch, los)`.
    """

    s: Tensor
    mu: Tensor
    sigma: Tensor
    before: Tensor

    @property
    def inputs(self) -> Tensor:
        """For the network, shape `(batch, 2 + 2 channels, los)`."""
        before = self.before[:, None] / BLOCK - 1
        return torch.cat([2 * self.s[:, None] - 1, self.mu, self.sigma.log(), before], dim=1)


def network_output(network: LocalUNet, z: Tensor, t: Tensor, theta: Tensor, profiles: Profiles) -> Tensor:
    """F, shape `(batch, channel, x, y, los)`, in the precision of z.

    Arguments:
        network: Its weights.
        z: Scaled innovations and the fields that they make, shape `(batch, 2 channel, x, y, los)`.
        t: Times, shape `(batch,)`.
        theta: Parameters in [0, 1], shape `(batch, parameters)`.
        profiles: Profiles of the same cells.
    """
    conditions = profiles.inputs[:, :, None, None].to(z).expand(len(z), -1, *z.shape[2:4], -1)
    return network(torch.cat([z, conditions], dim=1).float(), t.float(), theta.float()).to(z)


@dataclass(frozen=True, kw_only=True)
class LightconeFlow:
    """Lightcones of one set of parameters on one grid; see `priors.base.FlowPrior`. Or of several, one field of each.

    Arguments:
        name: Name in reports.
        network: F.
        linear_part: Correction added to its output.
        theta: Parameters in [0, 1], shape `(parameters,)`, or `(cones, parameters)`.
        profiles: Profiles of as many lightcones.
        innovations: S, the whitening of fields before the network.
        standardisation: From xi to temperature in mK, and to the place of the ionised region, by a S of its own.
        units: Units of the first channel.
        half: Whether the network runs in bf16 on a GPU, as it was trained; on a processor it is float32.
        sha256: Digest of the file that the prior was read from.
    """

    name: str
    network: LocalUNet
    linear_part: LinearCorrection
    theta: Tensor
    profiles: Profiles
    innovations: VecchiaWhitening
    standardisation: WhiteningTransform
    units: str = "mK"
    half: bool = True
    sha256: str = ""

    adapter: ClassVar[str] = "lightcones"
    """Behind this adapter of the registry any sampler draws temperatures of them."""

    @property
    def gaussian(self) -> Literal[False]:
        return False

    @property
    def event_shape(self) -> tuple[int, ...]:
        """Of one field, `(channel, x, y, los)`."""
        _, channels, depth = self.profiles.mu.shape
        return (channels, *self.innovations.points, depth)

    @cached_property
    def source(self) -> Covariance:
        """C_0: white, in modes that a telescope measures or does not."""
        return Covariance.diagonal_in(HartleyAcross(), torch.ones(self.event_shape, dtype=torch.float64))

    @property
    def covariance(self) -> Covariance:
        """Of innovations, white as well, up to what spectra leave of the fields' covariance."""
        return self.source

    @property
    def mean(self) -> Tensor:
        """Zero: the mean of slices is in the standardisation."""
        return torch.zeros(self.event_shape, dtype=torch.float64)

    def velocity(self, x: Tensor, t: float) -> Tensor:
        """v(xi, t) for innovations `(batch, channel, x, y, los)` at one time 0 <= t < 1; shape, precision and device of
        x.

        Raises:
            InfieldError: x or y is no multiple of the network's coarsest cell.
        """
        p = t**2 + (1 - t) ** 2
        with torch.set_grad_enabled(x.requires_grad and torch.is_grad_enabled()):  # never for the weights alone
            learned = self._learned(p**-0.5 * x, t).to(x)
            return learned.mul_(p**-0.5).add_(x, alpha=(2 * t - 1) / p)  # in place: memory

    def _learned(self, xi: Tensor, t: float) -> Tensor:
        """F, segment by segment, each with its receptive field beyond both ends."""
        multiple, reach, depth = self.network.multiple, self.network.reach, xi.shape[-1]
        if any(n % multiple for n in xi.shape[2:4]):
            raise InfieldError(
                where="lightcones",
                found=f"{xi.shape[2]} x {xi.shape[3]} cells across",
                expected=f"multiples of {multiple}",
            )
        xi = xi.float()
        x = self.innovations.colour(xi)
        learned = torch.empty_like(xi)
        for start in range(0, depth, STRETCH):
            stop = min(start + STRETCH, depth)
            low, high = max(start - reach, 0), min(stop + reach, depth)
            z = torch.cat([xi[..., low:high], x[..., low:high]], dim=1)
            learned[..., start:stop] = self._stretch(z, t, slice(low, high))[..., start - low : stop - low]
        del x, z
        device = next(self.linear_part.parameters()).device
        theta, s = self.theta.reshape(-1, self.theta.shape[-1]).float().to(device), self.profiles.s.float().to(device)
        g = self.linear_part(theta, torch.full((len(theta),), t, device=device), s.expand(len(theta), -1))
        return learned.add_(of_field(g.to(xi), xi))

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
        with torch.autocast(device.type, torch.bfloat16, enabled=self.half and device.type == "cuda"):
            learned = network_output(self.network, z.to(device), times, theta, profiles).to(z)
        return learned[..., : learned.shape[-1] - missing]

    def to(self, device: torch.device | str) -> LightconeFlow:
        """The same prior with its large network on another device; fields stay where they are."""
        return replace(self, network=self.network.to(device))
