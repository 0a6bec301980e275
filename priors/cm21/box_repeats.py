r"""Decorrelation of the structures of a simulated box between its repetitions along the line of sight.

Simulators fill a lightcone with copies of one box, each as it has become by the time that its light left. So slices
one box apart show the same structures, a little later, and a cone of 32 x 32 x 512 cells holds hardly more of them than
a cube of 32. With x_b = h_b * x, filtered by hats h_b of log |k|, slices one box of n cells apart are correlated by

.. math:: \rho_b(s; \theta) = \exp\Big(-\Big(\int_s^{s + n} c_b(s'; \theta)\, ds'\Big)^{3/2}\Big)

(`priors.cm21.whitening`). A small network maps (theta, s) to the rates c_b of each channel. With r, the correlation
that a cone has there, the negative log likelihood of unit Gaussians of correlation rho is

.. math:: \tfrac12 \log (1 - \rho^2) + \frac{1 - \rho r}{1 - \rho^2},

least at rho = r. Where a contrast changes its sign, as when gas that was colder than the background becomes warmer,
correlations are negative; rho is then near 0, which discards information but is not wrong.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from infield.priors.cm21.slice_network import SliceNetwork, fit_to_slices
from infield.priors.cm21.slice_spectra import half_spectrum, hats_of

BANDS, MIN_WAVENUMBER, MAX_WAVENUMBER = 6, 0.2, 3.0
"""Hats, and wavenumbers of the first and the last one in radians a cell."""

POWER = 1.5
"""p of exp(-x^p): between 1, which gives rough fields, and 2, which decorrelates more slowly than lightcones."""

MIN_FILTERED_POWER = 1e-4
"""Power of a filtered slice, of unit variance, below which its correlations are ignored."""


@dataclass(frozen=True)
class BoxRepeats:
    """Repetition of a box along the line of sight.

    Arguments:
        rates: c_b, shape `(channel, bands, los)` a lightcone, in changes a cell.
        period: Cells of the box.
    """

    rates: Tensor
    period: int

    def to(self, device: torch.device | str) -> BoxRepeats:
        return BoxRepeats(self.rates.to(device), self.period)


class BoxRepeatNetwork(SliceNetwork):
    """Rates c_b for parameters and places in [0, 1]; 1 a box before the fit.

    Arguments:
        parameters: Number of parameters.
        channels: Channels of the fields.
        period: Cells of the box.
        width: Width of the three hidden layers.
    """

    def __init__(self, parameters: int, channels: int, period: int, width: int = 96) -> None:
        super().__init__(parameters, channels, width, outputs=BANDS, hidden=3, zero=True)
        self.arguments["period"] = self.period = period

    def forward(self, theta: Tensor, s: Tensor) -> Tensor:
        """c, changes a cell, shape `(batch, channel, bands, los)`, of parameters `(batch, parameters)` and places
        `(batch, los)`."""
        c = self.numbers(theta, s).clamp(-6, 1.5).exp() / self.period
        return c.unflatten(-1, (self.arguments["channels"], BANDS)).movedim(1, -1)

    def of(self, theta: Tensor, s: Tensor) -> BoxRepeats:
        """Return the repeats of one lightcone, or of several, for `priors.cm21.whitening`."""
        rates = self(theta, s)
        return BoxRepeats(rates if len(rates) > 1 else rates[0], self.period)


def bands(k: Tensor) -> Tensor:
    """h_b at wavenumbers in radians a cell, shape `(bands, *k)`."""
    return hats_of(k, BANDS, MIN_WAVENUMBER, MAX_WAVENUMBER)


def correlations(x: Tensor, period: int) -> tuple[Tensor, Tensor]:
    """r of slices and those one period farther, shape `(channel, bands, los - period)`, and where they are usable.

    Arguments:
        x: Fields of one cone, shape `(channel, x, y, los)`.
        period: In cells.
    """
    k = half_spectrum(x.shape[1:], x.device)
    modes = torch.fft.rfftn(x.float(), dim=(1, 2, 3))
    found, informative = [], []
    for h in bands(k):
        part = torch.fft.irfftn(modes * h, s=x.shape[1:], dim=(1, 2, 3))
        power = part.square().mean((1, 2))
        both = (power[:, period:] * power[:, :-period]).sqrt()
        found.append((part[..., period:] * part[..., :-period]).mean((1, 2)) / both.clamp_min(MIN_FILTERED_POWER**2))
        informative.append(torch.minimum(power[:, period:], power[:, :-period]) > MIN_FILTERED_POWER)
    return torch.stack(found, dim=1), torch.stack(informative, dim=1)


def fit_box_repeats(
    cones: Iterable[Tensor],
    theta: Tensor,
    s: Tensor,
    period: int,
    *,
    seed: int,
    steps: int = 3000,
    batch: int = 1024,
    device: torch.device | str = "cpu",
) -> BoxRepeatNetwork:
    """The network with the greatest likelihood.

    Arguments:
        cones: Standardised fields of each training cone, shape `(channel, x, y, los)`, deeper than the period.
        theta: Parameters of the cones in [0, 1], shape `(cones, parameters)`.
        s: Places of the slices in [0, 1], shape `(los,)`.
        period: Cells of the box.
        seed: Random seed of initial weights and batches.
        steps, batch: Training steps, and slices per step.
        device: Device of the training; the result is on the CPU.
    """
    each = [correlations(x.to(device), period) for x in cones]
    found, informative = (torch.stack(parts).to(device) for parts in zip(*each, strict=True))
    theta, s = theta.float().to(device), s.float().to(device)
    model = BoxRepeatNetwork(theta.shape[1], found.shape[1], period).to(device)

    def loss(cones: Tensor, slices: Tensor) -> Tensor:
        between = torch.stack([s[slices], s[slices + period // 2], s[slices + period]], dim=1)
        c = model(theta[cones], between) @ torch.tensor([0.25, 0.5, 0.25], device=between.device)
        rho = (-(period * c).pow(POWER)).exp()
        left = (1 - rho.square()).clamp_min(1e-6)
        cost = left.log() / 2 + (1 - rho * found[cones, ..., slices]) / left
        used = informative[cones, ..., slices]
        return torch.where(used, cost, 0.0).sum() / used.sum().clamp_min(1)

    places = range(found.shape[-1])
    fit_to_slices(model, loss, len(theta), places, seed=seed, steps=steps, batch=batch, rate=2e-3)
    return model.cpu().eval().requires_grad_(False)
