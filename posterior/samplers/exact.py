"""Exact posterior draws for Gaussian and Gaussian-mixture priors on linear data with Gaussian noise: the reference.

Gaussian: one closed-form conditioning. Mixture (posterior weights by evidence):

    p(u | y) = sum_k w_k N(y; A mu_k, A C_k A^T + R) N(u | y, k) / sum_j w_j N(y; A mu_j, A C_j A^T + R).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from infield.core.randomness import Randomness, normal
from infield.physics.measurement import Measurement
from infield.posterior.inference.linear_gaussian import LinearGaussianData
from infield.posterior.samplers.accepts import CLOSED_FORM, Accepts
from infield.posterior.samplers.base import Draws, Sampler
from infield.priors.base import FlowPrior
from infield.priors.gaussian.prior import GaussianPrior


@dataclass(frozen=True, kw_only=True)
class Exact(Sampler):
    """The posterior itself, where it is known in closed form. Makes no velocity calls.

    Examples:
        Every fourth of 32 points of a line, measured with a standard deviation of 0.1:

        >>> from infield.core.grid import Grid
        >>> from infield.physics.noise.registry import GaussianNoise
        >>> from infield.physics.operators.registry import build_operator
        >>> from infield.priors.gaussian.kernels import Matern
        >>> from infield.priors.gaussian.prior import gaussian_prior
        >>> grid, generator = Grid.regular((32,), units="m"), torch.Generator().manual_seed(0)
        >>> sensors = {"sensors": torch.arange(0, 32, 4).numpy()}
        >>> A = build_operator({"name": "points", "arrays": {"indices": "sensors"}}, sensors, grid, 1)
        >>> prior, noise = gaussian_prior(Matern(length=0.3), grid), GaussianNoise(torch.tensor(0.01))
        >>> y = noise.sample(A.A(prior.covariance.sample(1, generator)), generator)
        >>> posterior = Exact()(prior, Measurement(y=y, operator=A, noise=noise, grid=grid), 100, generator)
        >>> tuple(posterior.samples.shape), bool(posterior.samples[:, 0, ::4].std(0).max() < 0.15)
        ((100, 1, 32), True)
    """

    method: ClassVar[str] = "exact"
    accepts: ClassVar[Accepts] = CLOSED_FORM

    def draw(self, prior: FlowPrior, measurement: Measurement, n: int, generator: Randomness) -> Draws:
        components = _components(prior)
        data = LinearGaussianData(measurement, prior.source.modes)
        if len(components) == 1:
            chosen = torch.zeros(n, dtype=torch.long)
        else:
            p = _posterior_weights(prior, data)
            uniform = torch.special.ndtr(normal(generator, n, (1,)))
            chosen = torch.searchsorted(p.cumsum(0), uniform[:, 0]).clamp_max(len(components) - 1)
        u = torch.zeros((n, *prior.source.event_shape), dtype=torch.float64)
        for k, component in enumerate(components):  # every component is drawn for every sample: streams stay aligned
            draw = data.draw(component.mean.expand(n, *component.mean.shape), component.covariance, generator)
            u = torch.where((chosen == k).reshape(-1, *[1] * (u.ndim - 1)), draw, u)
        return Draws(u)


def posterior_mean(prior: FlowPrior, measurement: Measurement) -> Tensor:
    """The exact posterior mean in the units of the field, shape `(channel, *space)`."""
    components = _components(prior)
    units = prior.standardisation
    data = LinearGaussianData(measurement.pullback(units), prior.source.modes)
    means = torch.cat([data.mean(c.mean[None], c.covariance) for c in components])
    return units.to_units(torch.einsum("k,k...->...", _posterior_weights(prior, data), means))


def _components(prior: FlowPrior) -> tuple[GaussianPrior, ...]:
    CLOSED_FORM.check(Exact.method, prior)
    components: tuple[GaussianPrior, ...] = prior.components  # type: ignore[attr-defined]
    return components


def _posterior_weights(prior: FlowPrior, data: LinearGaussianData) -> Tensor:
    """P(k | y) of each component, shape `(components,)`; one component needs no evidence."""
    components = _components(prior)
    if len(components) == 1:
        return torch.ones(1, dtype=torch.float64)
    evidence = torch.stack([data.log_evidence(c.mean, c.covariance) for c in components])
    return torch.softmax(prior.weights.log() + evidence, dim=0)  # type: ignore[attr-defined]
