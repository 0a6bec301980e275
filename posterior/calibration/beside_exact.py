r"""Draws of a sampler beside those of the exact posterior of the same data, where it is known: a classifier.

Truths theta_s with data y_s are simulated; of each y_s there are n draws of the sampler and n of `Exact`, both less the
exact mean E[x | y_s]. A classifier that distinguishes the pooled deviations has found an error (Lopez-Paz & Oquab 2017,
arXiv 1610.06545), since both have one distribution where the sampler is right: given y_s the two sets are exchangeable.
Its accuracy by chance is 1/2 with a standard deviation of 0.5 / sqrt(2 S n).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from infield.core.randomness import Randomness
from infield.physics.measurement import Measurement
from infield.posterior.diagnostics.two_sample import classifier_accuracy
from infield.posterior.samplers.accepts import CLOSED_FORM
from infield.posterior.samplers.exact import Exact, posterior_mean

MAX_DRAWS = 1024
"""Draws of each set at most: a classifier learns no more from further ones in reasonable time."""

ALARM_DISTANCE = 4.0
"""Standard deviations by chance from which on an accuracy is an error: 3 in 100,000 of right samplers."""


@dataclass(frozen=True)
class ClassifierTest:
    """Result of the test.

    Arguments:
        accuracy: Of the classifier on draws that it was not trained on.
        draws: Of each set.
    """

    accuracy: float
    draws: int

    @property
    def chance(self) -> float:
        """Standard deviation of the accuracy where both sets have one distribution."""
        return 0.5 / math.sqrt(2 * self.draws)

    @property
    def right(self) -> bool:
        """Whether no difference was found."""
        return self.accuracy <= 0.5 + ALARM_DISTANCE * self.chance

    @property
    def words(self) -> str:
        """In one sentence."""
        share, error = 100 * self.accuracy, 100 * self.chance
        found = "does not distinguish" if self.right else "distinguishes"
        return f"a classifier {found} draws from exact ones ({share:.1f} % right, 50 +- {error:.1f} % by chance)"


def is_known(prior: Any, measurement: Measurement) -> bool:
    """Whether the exact posterior can be drawn from."""
    return CLOSED_FORM.met_by(prior) and measurement.linear_gaussian


def compare_with_exact(
    prior: Any,
    simulations: int,
    draws: int,
    read: Callable[[int], tuple[Measurement, Tensor]],
    streams: Callable[[int], Randomness],
) -> ClassifierTest:
    """The test.

    Arguments:
        prior: With a closed form.
        simulations: How many there are; so many are used that `MAX_DRAWS` draws are compared.
        draws: Of each.
        read: Gives the data of a simulation and the sampler's draws, `(draws, channel, *space)`.
        streams: Gives the random numbers of the exact draws of a simulation.
    """
    used = min(simulations, max(-(-MAX_DRAWS // draws), 1))
    found: tuple[list[Tensor], list[Tensor]] = [], []
    for s in range(used):
        measurement, samples = read(s)
        mean = posterior_mean(prior, measurement)
        found[0].append(samples - mean)
        found[1].append(Exact()(prior, measurement, draws, streams(s)).samples - mean)
    ours, exact = (torch.cat(one)[:MAX_DRAWS] for one in found)
    return ClassifierTest(classifier_accuracy(ours, exact), len(ours))
