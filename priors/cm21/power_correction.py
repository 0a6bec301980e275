r"""Power that what is drawn has beside the spectra that it was drawn with, so that it can be taken out.

A flow turns white noise xi into innovations xi_1 that have a little more or less power than those of the simulator, the
same for all draws. What is observed are the fields S xi_1; each is paired with S xi, the Gaussian
field of the same noise, which has the spectra a_j of the training cones (`priors.cm21.slice_spectra`) and shares the
chance of the draw. With x_i = h_i * x, filtered by the functions of these spectra, a small network r_i(theta, s) is
fitted by least squares to

.. math:: \tfrac12 \log \frac{(h_i * S \xi_1)^2(s)}{(h_i * S \xi)^2(s)},

and fields in units are made by spectra of amplitudes a_j / r_j. Fields are compared and not innovations: where a box
repeats along the line of sight, an excess in innovations accumulates in the field.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import torch
from torch import Generator, Tensor

from infield.priors.cm21.flow import LightconeFlow
from infield.priors.cm21.prior import FLOW_STEPS, LightconePrior
from infield.priors.cm21.slice_network import fit_to_slices
from infield.priors.cm21.slice_spectra import ENDS, Filters, SliceSpectra

POWER_OFFSET = 1e-6
"""Added to powers of fields of unit variance."""

WIDTH = 96
"""Width of the hidden layers of r."""


def of_flow(
    prior: LightconePrior, theta: Tensor, together: int, generator: Generator
) -> Iterator[tuple[Tensor, Tensor]]:
    """A draw of a prior's flow at each of some parameters, and the Gaussian field of the same noise.

    Arguments:
        prior: Its networks are where cones are drawn.
        theta: Parameters in [0, 1], shape `(draws, parameters)`, on the same device.
        together: Number drawn at a time.
        generator: Generator of the noise, on the CPU.
    """
    for at in theta.split(together):
        flow = _flow(prior, at)
        xi = torch.randn((len(at), *flow.event_shape), generator=generator).to(theta.device)
        fields = (flow.innovations.colour(x) for x in (prior.evolved(flow, xi, FLOW_STEPS), xi))
        yield from zip(*fields, strict=True)


def _flow(prior: LightconePrior, theta: Tensor) -> LightconeFlow:
    s = torch.linspace(0, 1, len(prior.distance))
    return prior.on(theta, s[None], prior.points, theta.device)


def log_amplitudes(pairs: Iterable[tuple[Tensor, Tensor]]) -> Tensor:
    """Return the targets of the fit of r, shape `(draws, channel, functions, los)`.

    Arguments:
        pairs: Fields `(channel, x, y, los)`.
    """
    filters, found = None, []
    for drawn, gaussian in pairs:
        filters = filters or Filters((drawn.shape[1], drawn.shape[2], drawn.shape[3]))
        found.append(((filters.powers(drawn) + POWER_OFFSET) / (filters.powers(gaussian) + POWER_OFFSET)).log() / 2)
    return torch.stack(found)


def fit_power_correction(found: Tensor, theta: Tensor, s: Tensor, *, seed: int, steps: int) -> SliceSpectra:
    """r.

    Arguments:
        found: As `log_amplitudes`.
        theta: Parameters of the draws in [0, 1], shape `(draws, parameters)`.
        s: Places of the slices in [0, 1], shape `(los,)`.
        seed, steps: Seed and steps of the fit.
    """
    found, theta, s = found.cpu(), theta.float().cpu(), s.float().cpu()
    model = SliceSpectra(theta.shape[1], found.shape[1], WIDTH)

    def loss(draws: Tensor, slices: Tensor) -> Tensor:
        predicted = model(theta[draws], s[slices, None])[..., 0].log()
        return (predicted - found[draws, :, :, slices]).square().mean()

    ends = min(ENDS, (len(s) - 1) // 4)
    with torch.enable_grad():
        fit_to_slices(
            model, loss, len(theta), range(ends, len(s) - ends), seed=seed, steps=steps, batch=1024, rate=2e-3
        )
    return model.eval().requires_grad_(False)
