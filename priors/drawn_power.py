r"""Power that draws of a trained flow have beside the cones that it learned from, so that it can be taken out of them.

A flow that is trained for a while turns white noise into innovations of a little more or less power than those of the
simulator, the same for all draws. Both have spectra (`priors.slice_spectra`): those of the data, xi_1 = S^{-1} x_1,
with amplitudes A_j(s, theta) near 1, and not where nothing is ionised, or all; and those of draws, fitted as r_j A_j,

.. math:: E\, x_i^2(s) = \sum_{jl} M_{ijl}\, r_j A_j\, r_l A_l.

Fields in units are made by spectra of amplitudes a_j / r_j. Innovations of a draw do not come again along the line of
sight as structures of a simulated cone do, so that a draw says more of r than a cone says of A.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Iterator

import numpy as np
import torch
from torch import Tensor

from infield.priors.lightcones import STEPS, LightconePrior
from infield.priors.slice_spectra import SliceSpectra, fit_slice_spectra
from infield.priors.training import VALIDATION, batch_generator


def fit_drawn_power(
    prior: LightconePrior,
    fields: Iterable[Tensor],
    theta: Tensor,
    *,
    draws: int,
    together: int,
    seed: int,
    steps: int,
    device: torch.device | str = "cpu",
) -> SliceSpectra:
    """r.

    Arguments:
        prior: Of the trained network; its `drawn` plays no part.
        fields: Standardised fields of each cone of training, shape `(channel, x, y, los)`.
        theta: Their parameters in [0, 1], shape `(cones, parameters)`.
        draws: How many cones are drawn, at the parameters of as many cones of training, at most one at each.
        together: How many are drawn, or turned into innovations, at a time.
        seed: Of draws, and of the fits.
        steps: Of each of two fits.
        device: Where cones are drawn and spectra are fitted.
    """
    prior, theta, s = (
        copy.deepcopy(prior).to(device),
        theta.float().to(device),
        torch.linspace(0, 1, len(prior.distance)),
    )
    chosen = theta[np.linspace(0, len(theta) - 1, min(draws, len(theta))).astype(int)]
    with torch.no_grad():
        data = fit(of_data(prior, fields, theta, s, together), prior, theta, s, seed, steps, device)
        return fit(drawn(prior, chosen, s, together, seed), prior, chosen, s, seed, steps, device, beside=data)


def fit(
    innovations: Iterable[Tensor],
    prior: LightconePrior,
    theta: Tensor,
    s: Tensor,
    seed: int,
    steps: int,
    device: torch.device | str,
    beside: SliceSpectra | None = None,
) -> SliceSpectra:
    """Spectra of innovations, or of them beside others."""
    with torch.enable_grad():
        return fit_slice_spectra(
            innovations,
            theta,
            s,
            statistics=prior.statistics,
            relative=True,
            beside=beside,
            seed=seed,
            steps=steps,
            device=device,
        )


@torch.no_grad()
def of_data(
    prior: LightconePrior, fields: Iterable[Tensor], theta: Tensor, s: Tensor, together: int
) -> Iterator[Tensor]:
    """Innovations of one cone after the other."""
    each = iter(fields)
    for at in theta.split(together):
        x = torch.stack([field for _, field in zip(at, each, strict=False)]).to(theta.device)
        yield from prior.on(at, s[None], prior.points, theta.device).innovations.whiten(x.float())


@torch.no_grad()
def drawn(prior: LightconePrior, theta: Tensor, s: Tensor, together: int, seed: int) -> Iterator[Tensor]:
    """The same of draws, one at each of the parameters."""
    for number, at in enumerate(theta.split(together)):
        flow = prior.on(at, s[None], prior.points, theta.device)
        yield from prior.innovations(flow, batch_generator(seed, VALIDATION + 2, number, 0), len(at), STEPS)
