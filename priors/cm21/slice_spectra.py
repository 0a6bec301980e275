r"""Power spectra of the fields of a lightcone, as functions of distance and of parameters.

Statistics of a lightcone change along the line of sight, slowly beside the structures themselves, so that it has a
spectrum at each distance (an *evolutionary* one; Priestley 1965, J. R. Stat. Soc. B 27, 204):

.. math:: \sqrt{P(k; s, \theta)} = \sum_j a_j(s, \theta) h_j(k),

with h_j(k) hat functions of log \|k\| that sum to 1, times 1 - mu^2 or mu^2, mu = k_los / \|k\|: across and along the
line of sight structures differ, by velocities and by evolution. A small network maps (theta, s) to the a_j >= 0 of each
channel. From (theta, s) alone this is hard where spectra change fast: where the gas is heated or ionised. The history
of the slice mean marks these epochs and can be learned from a few lightcones, so that the network is conditioned on it,
too (`priors.cm21.slice_statistics`). It is fitted to the power that filters h_i find in the slices of the
training cones, x_i = h_i * x, whose mean is

.. math:: E\,x_i^2(s) = N^{-1} \sum_k h_i(k)^2 P(k; s, \theta) = \sum_{jl} M_{ijl}\, a_j a_l,

by Whittle's likelihood, sum_i log E x_i^2 + x_i^2 / E x_i^2 (Whittle 1953, Ark. Mat. 2, 423).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from infield.core.spectra import mode_counts, wave_axes, wavenumbers
from infield.priors.cm21.slice_network import SliceNetwork, fit_to_slices
from infield.priors.cm21.slice_statistics import SliceStatistics

KNOTS = 10
"""Hat functions of log |k|."""

MIN_WAVENUMBER, MAX_WAVENUMBER = 0.2, 5.0
"""Wavenumbers of the first and the last one in radians a cell; below and above, P depends on mu alone."""

ENDS = 12
"""Slices at both ends of a lightcone that are left out of the fit, where periodic filters reach the other end."""

POWER_OFFSET = 1e-8
"""Added to powers, so that a slice where nothing varies has a likelihood."""


class SliceSpectra(SliceNetwork):
    """Amplitudes a_j for parameters and places in [0, 1].

    Arguments:
        parameters: Number of parameters.
        channels: Channels of the fields.
        width: Width of the four hidden layers.
        statistics: Arguments of the slice statistics that are its inputs; None for none. It then gives sigma a,
            with their sigma, and not a itself: sigma may be off, and sigma a is not.
        members: Networks whose mean of log a it is.
    """

    def __init__(
        self,
        parameters: int,
        channels: int,
        width: int = 128,
        statistics: Mapping[str, Any] | None = None,
        members: int = 1,
    ) -> None:
        known = None if statistics is None else SliceStatistics(**statistics)
        told = 0 if known is None else known.n_features
        super().__init__(
            parameters, channels, width, outputs=2 * KNOTS, hidden=4, told=told, zero=True, members=members
        )
        self.arguments |= {"statistics": None if statistics is None else dict(statistics)}
        self.arguments |= {"members": members}
        self.statistics = known

    def forward(self, theta: Tensor, s: Tensor) -> Tensor:
        """a, shape `(batch, channels, functions, los)`, of parameters `(batch, parameters)` and places `(batch, los)`;
        1 before the fit, the spectrum of white noise of unit variance (1 over sigma if the statistics are inputs)."""
        return self.amplitudes(theta, s, *(self.statistics.course(theta, s) if self.statistics else ()))

    def amplitudes(self, theta: Tensor, s: Tensor, *course: Tensor) -> Tensor:
        """The same, where the course of the statistics and log sigma are known."""
        a = self.numbers(theta, s, *course[:1]).unflatten(-1, (self.arguments["channels"], 2 * KNOTS))
        for log_sigma in course[1:]:
            a = a - log_sigma[..., None]
        return a.clamp(-8, 6).exp().movedim(1, -1)


def hats(k_across: Tensor, k_los: Tensor) -> Tensor:
    """h_j at wavenumbers in radians a cell, shape `(functions, *k)`.

    Arguments:
        k_across, k_los: Parts of k, of one shape.
    """
    k = torch.hypot(k_across, k_los)
    hat = hats_of(k, KNOTS, MIN_WAVENUMBER, MAX_WAVENUMBER)
    mu_2 = torch.where(k > 0, k_los.square() / k.square().clamp_min(1e-12), 0.0)
    return torch.cat([(1 - mu_2) * hat, mu_2 * hat])


def hats_of(k: Tensor, count: int, least: float, greatest: float) -> Tensor:
    """Hat functions of log k that sum to 1, shape `(count, *k)`; the first and the last one are 1 beyond their knots.

    Arguments:
        k: Wavenumbers.
        count: Number of functions.
        least, greatest: First and last knot.
    """
    place = (k.clamp(least, greatest) / least).log() * ((count - 1) / math.log(greatest / least))
    knots = torch.arange(count, dtype=k.dtype, device=k.device).reshape(-1, *[1] * k.ndim)
    return (1 - (place - knots).abs()).clamp_min(0)


def half_spectrum(
    shape: Sequence[int], device: torch.device | str = "cpu", dtype: torch.dtype = torch.float32
) -> Tensor:
    """|k| in radians per cell of the modes of `torch.fft.rfftn`."""
    return wavenumbers(shape, half=True, radians=True, dtype=dtype, device=device)


class Filters:
    """The filters h_i on one box.

    Arguments:
        shape: Cells along x, y and the line of sight.
    """

    def __init__(self, shape: tuple[int, int, int]) -> None:
        self.shape = shape
        kx, ky, k_los = wave_axes(shape, half=True, radians=True)
        h = hats(*torch.broadcast_tensors(torch.hypot(kx, ky), k_los))
        flat, squares = h.flatten(1), (h.square() * mode_counts(shape[2])).flatten(1) / math.prod(shape)
        self.expected = torch.stack([(flat * square) @ flat.T for square in squares])
        """M, shape `(functions, functions, functions)`."""
        self.h = h.float()

    def powers(self, x: Tensor) -> Tensor:
        """Mean of x_i^2 in slices of fields `(channel, x, y, los)`, shape `(channel, functions, los)`."""
        modes, self.h = torch.fft.rfftn(x.float(), dim=(1, 2, 3)), self.h.to(x.device)
        found = [torch.fft.irfftn(modes * h, s=self.shape, dim=(1, 2, 3)).square().mean((1, 2)) for h in self.h]
        return torch.stack(found, dim=1)


def expected_powers(a: Tensor, M: Tensor) -> Tensor:
    """E x_i^2, shape of the amplitudes a, `(..., functions)`."""
    return ((a @ M.permute(1, 0, 2).flatten(1)).unflatten(-1, M.shape[:2]) * a[..., None, :]).sum(-1)


def fit_slice_spectra(
    cones: Iterable[Tensor],
    theta: Tensor,
    s: Tensor,
    *,
    statistics: SliceStatistics | None = None,
    members: int = 1,
    seed: int,
    steps: int = 6000,
    batch: int = 1024,
    device: torch.device | str = "cpu",
) -> SliceSpectra:
    """The network with the greatest likelihood, found by Adam with a cosine schedule.

    Arguments:
        cones: Standardised fields of each training cone, shape `(channel, x, y, los)`.
        theta: Parameters of the cones in [0, 1], shape `(cones, parameters)`.
        s: Places of the slices in [0, 1], shape `(los,)`.
        statistics: By which they are standardised, and which are inputs of the network; a copy becomes a part of it.
        members: Networks that are trained apart, and their mean taken: most of what one errs by is not in the cones.
        seed: Random seed of initial weights and batches.
        steps, batch: Training steps of each, and slices per step.
        device: Device of filters and training; the result is on the CPU.
    """
    seen, filters = [], None
    for cone in cones:
        filters = filters or Filters((cone.shape[1], cone.shape[2], cone.shape[3]))
        seen.append(filters.powers(cone.to(device)))
    assert filters is not None
    powers = torch.stack(seen).to(device).movedim(3, 1).contiguous()  # cones, los, channels, functions
    M, theta, s = filters.expected.float().to(device), theta.float().to(device), s.float().to(device)
    known = None if statistics is None else statistics.arguments
    told: dict[str, Any] = {
        "parameters": theta.shape[1],
        "channels": powers.shape[2],
        "statistics": known,
    }
    course: list[Tensor] = []
    if statistics is not None:
        each = [statistics.to(device).course(at[None], s[None]) for at in theta]
        course = [torch.cat(parts).detach() for parts in zip(*each, strict=True)]

    def loss(model: SliceSpectra, cones: Tensor, slices: Tensor) -> Tensor:
        known = (one[cones, slices][:, None] for one in course)
        a = model.amplitudes(theta[cones], s[slices, None], *known)[..., 0]
        expected = expected_powers(a, M) + POWER_OFFSET
        return (expected.log() + (powers[cones, slices] + POWER_OFFSET) / expected).mean()

    ends = min(ENDS, (len(s) - 1) // 4)
    places = range(ends, len(s) - ends)
    found = SliceSpectra(**told, members=members)
    for number, layers in enumerate([found.layers, *found.others]):
        one = SliceSpectra(**told).to(device)
        own = functools.partial(loss, one)
        fit_to_slices(one, own, len(powers), places, seed=seed + 1000 * number, steps=steps, batch=batch, rate=2e-3)
        layers.load_state_dict(one.layers.state_dict())
    if found.statistics is not None and statistics is not None:
        found.statistics.load_state_dict(statistics.state_dict())
    return found.eval().requires_grad_(False)
