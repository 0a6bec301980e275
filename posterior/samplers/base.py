"""What every sampler shares: units, counting, and the posterior that comes back."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from infield.core._deepinv import LinearPhysics
from infield.core.brief import Brief
from infield.core.calls import Calls
from infield.core.errors import InfieldError
from infield.core.randomness import Randomness
from infield.physics.measurement import Measurement
from infield.physics.noise.gaussian import refuse_unknown_variance
from infield.physics.units import same_units
from infield.posterior.samplers.accepts import FLOW, Accepts
from infield.priors.amortised.base import AmortisedModel
from infield.priors.base import FlowPrior


@dataclass(frozen=True, repr=False)
class Posterior(Brief):
    """Samples of the field in its units, with what they cost and how far they can be trusted.

    Arguments:
        samples: Draws, shape `(n, channel, *space)`, float64.
        cost: `velocity_calls` and `operator_calls` (A and A^T) a draw, and `seconds` for the batch.
        diagnostics: What the sampler reports of itself, and `chi_square`, the mean reduced chi-square of the draws.
        caveat: What the samples must not be taken for; None where they are draws of a posterior.
    """

    samples: Tensor
    cost: dict[str, float]
    diagnostics: dict[str, Any] = field(default_factory=dict)
    caveat: str | None = None

    def about(self) -> dict[str, object]:
        """What a short description shows."""
        cost = {name: f"{value:.3g}" for name, value in self.cost.items()}
        chi_square = self.diagnostics.get("chi_square")
        shown = {} if chi_square is None else {"chi_square": f"{chi_square:.3g}"}
        return {
            "samples": tuple(self.samples.shape),
            **shown,
            **cost,
            **({"caveat": self.caveat} if self.caveat else {}),
        }


@dataclass(frozen=True, repr=False)
class Estimate(Posterior):
    """An optimum, or a point estimate, given as often as samples were requested: `samples` are no sample of a
    posterior, and their spread is no uncertainty; `caveat` describes them."""


@dataclass(frozen=True)
class Draws:
    """What `Sampler.draw` returns.

    Arguments:
        fields: In standardised units, shape `(n, channel, *space)`.
        diagnostics: Numbers that the sampler reports of itself, e.g. `acceptance`, `log_evidence`.
    """

    fields: Tensor
    diagnostics: dict[str, float] = field(default_factory=dict)


Trained = AmortisedModel
"""What samplers take in place of a prior: trained for a family of measurements."""

BLOCK = 8
"""Samples that `reconstruct` draws together, if a sampler does not define another number."""


class Sampler(ABC):
    """A frozen dataclass of a paper's parameters; `draw` is the paper's algorithm.

    Calling it takes a measurement in the units of the field and gives samples in the same units; inside, `draw` takes
    standardised units only.
    """

    method: ClassVar[str]
    caveat: ClassVar[str | None] = None
    """What the samples must not be taken for; None where they are draws of a posterior."""
    accepts: ClassVar[Accepts] = FLOW
    """What it requires of a prior."""
    result: ClassVar[type[Posterior]] = Posterior
    """What it returns: a `Posterior`, or an `Estimate` where its result is an optimum or a point estimate."""

    @property
    def block(self) -> int:
        """Samples that are drawn together. Part of a run's identity: with it, sample i is the same in every run."""
        return BLOCK

    def block_of(self, measurement: Measurement) -> int:
        """The same for a measurement: fewer where many data of so many samples would fill the memory."""
        return self.block

    def __call__(
        self, prior: FlowPrior | Trained, measurement: Measurement, n: int, generator: Randomness
    ) -> Posterior:
        """Draw n samples of the posterior.

        Arguments:
            prior: Prior on the grid of the measurement, or a model trained for such; see `accepts`.
            measurement: Data, operator and noise.
            n: Number of samples.
            generator: One `torch.Generator`, or `SampleStreams` with one stream a sample.

        Raises:
            InfieldError: The sampler does not accept the prior, prior and measurement are of different fields, or the
                sampler does not support this measurement.
        """
        refuse_unknown_variance(measurement.noise)
        self.accepts.check(self.method, prior)
        of_network = prior.event_shape if isinstance(prior, Trained) else prior.source.event_shape
        shape = prior.standardisation.output_shape(of_network)
        if shape != measurement.event_shape:
            raise InfieldError(
                where=f"prior '{prior.name}'",
                found=f"a measurement of a field of shape {measurement.event_shape}",
                expected=f"{shape} (channel, space)",
            )
        if prior.units is not None and not same_units(prior.units, measurement.units):
            raise InfieldError(
                where=f"prior '{prior.name}'",
                found=f"units '{prior.units}'",
                expected=f"'{measurement.units}', as the measurement's field",
                remedy="convert one of them",
            )
        start, units = time.perf_counter(), prior.standardisation
        data = measurement.pullback(units)
        transpose = "A_adjoint" if isinstance(data.operator, LinearPhysics) else "A_vjp"
        network = prior.evaluation if isinstance(prior, Trained) else "velocity"
        velocity, operator = (
            Calls(prior, network),
            Calls(data.operator, "A", transpose, derivatives=True, pairs=("normal",)),
        )
        with torch.no_grad():
            draws = self.draw(velocity.counted, replace(data, operator=operator.counted), n, generator)
        cost = {"velocity_calls": velocity.fields / n, "operator_calls": operator.fields / n}
        samples = units.to_units(draws.fields)
        diagnostics = {**draws.diagnostics, "chi_square": float(measurement.chi_square(samples).mean())}
        return self.result(samples, {**cost, "seconds": time.perf_counter() - start}, diagnostics, self.caveat)

    @abstractmethod
    def draw(self, prior: FlowPrior, measurement: Measurement, n: int, generator: Randomness) -> Draws:
        """The algorithm, in standardised units, without gradients unless it enables them."""
