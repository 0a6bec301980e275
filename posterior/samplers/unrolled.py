"""The estimate of an unrolled network (MoDL: Aggarwal, Mani & Jacob 2019, arXiv:1712.02862): one field, no posterior.

`priors.amortised.unrolled` is the network and `priors.training.common.posterior_mean` its training, on the square
error, whose least value is at the posterior mean. So it is the anchor of a comparison: hardly any estimate has less
square error, and none of its training's cost is seen here.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from infield.core.randomness import Randomness
from infield.physics.measurement import Measurement
from infield.posterior.inference.amortised import check_amortised
from infield.posterior.samplers.accepts import Accepts, trained_model
from infield.posterior.samplers.base import Draws, Estimate, Posterior, Sampler
from infield.priors.amortised.unrolled import Unrolled


@dataclass(frozen=True, kw_only=True)
class UnrolledEstimate(Sampler):
    """The network's approximation of the posterior mean, repeated for each sample."""

    method: ClassVar[str] = "unrolled"
    accepts: ClassVar[Accepts] = trained_model(
        Unrolled, "an unrolled network, trained by `infield fit` with `priors.training.posterior_mean.PosteriorMean`"
    )
    result: ClassVar[type[Posterior]] = Estimate
    caveat: ClassVar[str | None] = (
        "one estimate, the posterior mean as a network approximates it: all samples are the same, and their spread, "
        "zero, is not that of the posterior"
    )

    def draw(self, prior: Any, measurement: Measurement, n: int, generator: Randomness) -> Draws:
        x_K = check_amortised(self.method, prior, measurement).estimate(prior)
        return Draws(x_K.expand(n, *x_K.shape[1:]).clone())
