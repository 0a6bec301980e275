r"""Linear correction of a network along the field itself, fitted by least squares.

The velocity of least square error leaves nothing of the target that depends linearly on the field. A network that was
trained for a while leaves a little, hardly seen in its loss, but the same at all times: a part eps of the field in F
multiplies the power of what is drawn by

.. math:: \exp\Big(2 \int_0^1 \frac{\epsilon\, dt}{t^2 + (1 - t)^2}\Big) = \exp(\pi \epsilon),

a quarter less power at eps = -0.09. So a part of the scaled field z is added to F, different at each scale and place,

.. math:: \sum_j g_j(\theta, t, s)\, h_j * z, \qquad g = \arg\min E\,\Big|F^* - F - \sum_j g_j h_j * z\Big|^2,

with hats h_j of log |k|, F* the target, and g a small network of parameters, time and place.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from infield.priors.cm21.slice_network import SliceNetwork, fit_to_slices
from infield.priors.cm21.slice_spectra import half_spectrum, hats_of

BANDS, MIN_WAVENUMBER, MAX_WAVENUMBER = 5, 0.3, 3.0
"""Hats, and wavenumbers of the first and the last one in radians a cell."""

RIDGE = 1e-3
"""Keeps g near 0 in bands with a fraction of the power below this, which windows hardly constrain."""


class LinearCorrection(SliceNetwork):
    """g_j for parameters, times and places in [0, 1]; 0 before the fit.

    Arguments:
        parameters: Number of parameters.
        channels: Channels of the fields.
        width: Width of the three hidden layers.
    """

    def __init__(self, parameters: int, channels: int, width: int = 96) -> None:
        super().__init__(parameters, channels, width, outputs=BANDS, hidden=3, told=1, zero=True)

    def forward(self, theta: Tensor, t: Tensor, s: Tensor) -> Tensor:
        """g, shape `(batch, channel, bands, los)`, of parameters `(batch, parameters)`, times `(batch,)` and places
        `(batch, los)`."""
        g = self.numbers(theta, s, (2 * t - 1)[:, None, None].expand(-1, s.shape[1], -1))
        return g.unflatten(-1, (self.arguments["channels"], BANDS)).movedim(1, -1)


def of_field(g: Tensor, z: Tensor) -> Tensor:
    """Sum of g_j h_j * z, for fields z `(batch, channel, x, y, los)` and g `(batch or 1, channel, bands, los)`."""
    result, filters = torch.zeros_like(z), _filters(z)
    for c in range(z.shape[1]):  # one after the other: memory
        modes = torch.fft.rfftn(z[:, c], dim=(1, 2, 3))
        for j, h in enumerate(filters):
            part = torch.fft.irfftn(modes * h, s=z.shape[2:], dim=(1, 2, 3))
            result[:, c] += part.mul_(g[:, c, j, None, None])
    return result


def products(z: Tensor, missed: Tensor) -> tuple[Tensor, Tensor]:
    """Means over slices of (h_i * z)(h_j * z) and of (h_i * z) F, shapes `(batch, channel, bands, bands, los)` and
    `(batch, channel, bands, los)`.

    Arguments:
        z: Fields, shape `(batch, channel, x, y, los)`.
        missed: F* - F, the same shape.
    """
    modes = torch.fft.rfftn(z, dim=(2, 3, 4))
    parts = torch.stack([torch.fft.irfftn(modes * h, s=z.shape[2:], dim=(2, 3, 4)) for h in _filters(z)], dim=2)
    cells = math.prod(z.shape[2:4])
    among = torch.einsum("ncixyl,ncjxyl->ncijl", parts, parts) / cells
    return among, torch.einsum("ncixyl,ncxyl->ncil", parts, missed) / cells


def fit_linear_correction(
    among: Tensor, of_missed: Tensor, theta: Tensor, t: Tensor, s: Tensor, *, seed: int, steps: int = 3000
) -> LinearCorrection:
    """The network of least square error.

    Arguments:
        among, of_missed: `products` of windows.
        theta: Their parameters in [0, 1], shape `(windows, parameters)`.
        t: Their times, shape `(windows,)`.
        s: Their places, shape `(windows, los)`.
        seed: Random seed of initial weights and batches.
        steps: Steps of the fit.
    """
    model = LinearCorrection(theta.shape[1], of_missed.shape[1])

    def loss(windows: Tensor, slices: Tensor) -> Tensor:
        g = model(theta[windows], t[windows], s[windows, slices, None])[..., 0]
        M, v = among[windows, ..., slices], of_missed[windows, ..., slices]
        error = torch.einsum("nci,ncij,ncj->nc", g, M, g) - 2 * (g * v).sum(-1)
        return (error + RIDGE * g.square().sum(-1)).mean()

    places = range(s.shape[1])
    fit_to_slices(model, loss, len(theta), places, seed=seed, steps=steps, batch=1024, rate=2e-3)
    return model.eval().requires_grad_(False)


def _filters(z: Tensor) -> list[Tensor]:
    """h_j on the half-spectrum of fields, each of shape `(x, y, los // 2 + 1)`."""
    return list(hats_of(half_spectrum(z.shape[2:], z.device), BANDS, MIN_WAVENUMBER, MAX_WAVENUMBER))
