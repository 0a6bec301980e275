"""What samplers require of a prior: each declares it once, and what it refuses, it refuses by this declaration alone.

    class MGVI(Sampler):
        accepts = GAUSSIAN

A requirement looks at what a prior has, not at its class: whatever has a Gaussian source and a velocity is a flow
prior. Nothing is evaluated by looking.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from infield.core.errors import InfieldError
from infield.priors.amortised.average_velocity import AverageVelocity
from infield.priors.amortised.base import AmortisedModel
from infield.priors.base import FlowPrior


@dataclass(frozen=True)
class Accepts:
    """A requirement of a sampler on its prior.

    Arguments:
        holds: Whether a prior meets it.
        expected: What is required, for messages.
        lacks: What is found instead; placed after the prior's name.
        remedy: What to do, with placeholders of parameters.
        parameters: Their values.
        after: A requirement that is checked first.
    """

    holds: Callable[[Any], bool]
    expected: str
    lacks: str = ""
    remedy: str = ""
    parameters: Mapping[str, Any] = field(default_factory=dict)
    after: Accepts | None = None

    def met_by(self, prior: Any) -> bool:
        """Whether a prior meets this requirement and those before it."""
        return (self.after is None or self.after.met_by(prior)) and self.holds(prior)

    def check(self, method: str, prior: Any) -> None:
        """Refuse a prior that does not meet it.

        Arguments:
            method: Name of the sampler.
            prior: What the sampler was given.

        Raises:
            InfieldError: The prior does not meet it.
        """
        if self.after is not None:
            self.after.check(method, prior)
        if self.holds(prior):
            return
        name, remedy, parameters = getattr(prior, "name", type(prior).__name__), self.remedy, dict(self.parameters)
        found = f"prior '{name}'{', ' if self.lacks else ''}{self.lacks}"
        if isinstance(prior, AmortisedModel):
            found, remedy, parameters = f"'{name}', {prior.what}", "use {sampler}", {"sampler": prior.sampler}
        raise InfieldError(
            where=f"sampler {method}", found=found, expected=self.expected, remedy=remedy, parameters=parameters
        )


def has(prior: Any, *names: str) -> bool:
    """Whether an object has attributes of these names, of which no property is evaluated."""
    return all(_has(prior, name) for name in names)


def _has(prior: Any, name: str) -> bool:
    try:
        inspect.getattr_static(prior, name)
    except AttributeError:
        return hasattr(type(prior), "__getattr__") and hasattr(prior, name)
    return True


def trained_model(kind: type[AmortisedModel], expected: str) -> Accepts:
    """The requirement of a sampler of models that were trained for a family of measurements.

    Arguments:
        kind: Class of the model.
        expected: The same for messages, and how it is trained.
    """
    remedy, parameters = "priors go with {sampler}", {"sampler": "faps"}
    return Accepts(lambda prior: isinstance(prior, kind), expected, remedy=remedy, parameters=parameters)


FLOW = Accepts(
    lambda prior: not isinstance(prior, AmortisedModel) and has(prior, "source", "velocity"),
    "a prior with a Gaussian source and a velocity",
    "which has none",
)
"""A `FlowPrior`."""


def _is_gaussian(prior: FlowPrior) -> bool:
    return prior.gaussian


def _has_components(prior: FlowPrior) -> bool:
    return getattr(prior, "components", None) is not None


GAUSSIAN = Accepts(
    _is_gaussian, "a Gaussian one", "which is not Gaussian", "use {sampler}", {"sampler": "faps"}, after=FLOW
)
"""A `FlowPrior` that is exactly Gaussian."""

CLOSED_FORM = Accepts(
    _has_components,
    "a Gaussian prior or a mixture of such",
    "whose posterior is not known in closed form",
    "use {sampler}",
    {"sampler": "faps"},
    after=FLOW,
)
"""A `Mixture`, a Gaussian prior being a mixture of one."""

ONE_STEP = trained_model(
    AverageVelocity, "a posterior in one step, trained by `infield fit` with `priors.training.mean_flow.MeanFlow`"
)
"""A one-step `AmortisedPosterior`."""
