"""A sampler that does not look at the data: shift plus draws of the source."""

from dataclasses import dataclass
from typing import ClassVar

from infield.core.randomness import normal
from infield.posterior.samplers.base import Draws, Sampler


@dataclass(frozen=True, kw_only=True)
class PriorDraws(Sampler):
    shift: float = 0.0

    method: ClassVar[str] = "example-prior-draws"
    caveat: ClassVar[str | None] = "draws of the source, whatever the data"

    def draw(self, prior, measurement, n, generator):
        white = normal(generator, n, prior.source.event_shape, measurement.y.device)
        return Draws(prior.source.colour(white) + self.shift)
