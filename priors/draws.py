"""Fields drawn from a prior, one a generator: exactly where its distribution is closed, else by its flow."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from infield.priors.base import FlowPrior, flow

STEPS = 50
"""Of a flow's integration. Eight to sixteen leave an error of a few per cent of a standard deviation."""


@torch.no_grad()
def draw_fields(prior: FlowPrior, generators: Sequence[Generator], *, steps: int = STEPS) -> Tensor:
    """Draw one field with each generator.

    A Gaussian prior is drawn as mean + C^(1/2) white noise; a mixture of Gaussian fields by its component, drawn with
    its weight, and then so; any other prior by its flow, from a draw of the source.

    Arguments:
        prior: The prior, on the grid of the fields.
        generators: One for each field; a field depends on its own alone, to rounding.
        steps: Of the flow's integration, one velocity call each.

    Returns:
        Fields in their units, shape `(len(generators), channel, *space)`.
    """
    components = getattr(prior, "components", None)
    if components is not None:
        weights = prior.weights.cumsum(0)  # type: ignore[attr-defined]
        return torch.cat([_of_component(components, weights, generator) for generator in generators])
    if prior.gaussian:
        return torch.cat([_gaussian(prior, generator) for generator in generators])
    x_0 = torch.cat([prior.source.sample(1, generator) for generator in generators])
    return prior.standardisation.to_units(flow(prior, x_0, steps))


def exact(prior: FlowPrior) -> bool:
    """Whether `draw_fields` draws from the prior exactly, in no steps."""
    return prior.gaussian or getattr(prior, "components", None) is not None


def _of_component(components: Sequence[FlowPrior], cumulative: Tensor, generator: Generator) -> Tensor:
    u = torch.rand((), generator=generator, dtype=torch.float64)
    k = int(torch.searchsorted(cumulative, u * cumulative[-1], right=True))
    return _gaussian(components[min(k, len(components) - 1)], generator)


def _gaussian(prior: FlowPrior, generator: Generator) -> Tensor:
    return prior.standardisation.to_units(prior.mean + prior.covariance.sample(1, generator))
