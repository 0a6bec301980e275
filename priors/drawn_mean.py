r"""Mean that what a student draws has beside what it should have, so that it can be taken out.

Standardised fields x have the mean 0 in every slice, over all cones of the same parameters (`priors.slice_statistics`).
Those that a student draws are off by a part of their scatter, the same for all draws. As in `priors.drawn_power`, the
Gaussian field of the same noise stands beside each draw, whose mean is 0 and whose chance is the draw's. A small
network m(theta, s) is fitted to the difference of slices' means by least squares; slices are then drawn about
mu - sigma m.
"""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from infield.priors.drawn_power import WIDTH
from infield.priors.lightcone_student import DrawnMean, OneStep
from infield.priors.lightcones import LightconePrior
from infield.priors.slice_network import fit_to_slices


def means_of_student(prior: LightconePrior, theta: Tensor, generator: Generator) -> Tensor:
    """Differences of the slices' means, shape `(draws, channel, los)`, of a draw at each of some parameters.

    Arguments:
        prior: With a student, whose gain is fitted and whose mean is not.
        theta: Parameters in [0, 1], shape `(draws, parameters)`.
        generator: Of the noise, on the CPU.
    """
    assert prior.student is not None
    s, found = torch.linspace(0, 1, len(prior.distance)), []
    for at in theta:
        one = OneStep(prior.student, prior.on(at, s[None], prior.points), prior.transform)
        xi = torch.randn(one.event_shape, generator=generator)
        drawn, gaussian = one.standardised(xi)
        found.append((drawn - gaussian).mean((1, 2)))
    return torch.stack(found)


def fit_drawn_mean(found: Tensor, theta: Tensor, s: Tensor, *, seed: int, steps: int) -> DrawnMean:
    """m.

    Arguments:
        found: As `means_of_student`.
        theta: Parameters of the draws in [0, 1], shape `(draws, parameters)`.
        s: Places of the slices in [0, 1], shape `(los,)`.
        seed, steps: Of the fit.
    """
    model = DrawnMean(theta.shape[1], found.shape[1], WIDTH)

    def loss(draws: Tensor, slices: Tensor) -> Tensor:
        return (model(theta[draws], s[slices, None])[..., 0] - found[draws, :, slices]).square().mean()

    with torch.enable_grad():
        fit_to_slices(model, loss, len(theta), range(len(s)), seed=seed, steps=steps, batch=1024, rate=2e-3)
    return model.eval().requires_grad_(False)
