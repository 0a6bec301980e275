r"""PMRF: the posterior mean, carried to where fields lie. Of little error and like a field, but no posterior.

"Posterior-Mean Rectified Flow: Towards Minimum MSE Photo-Realistic Image Restoration" (Ohayon, Michaeli & Elad 2025,
arXiv:2410.00418), algorithm 1. Among all estimates that have the law of the fields themselves, the one of least square
error is the optimal transport of the posterior mean to that law (Freirich et al. 2021); a rectified flow stands for the
transport:

.. math:: x_0 = f(y) + \sigma_s e,   dx_t = v(x_t, t) dt,   t = 0 ... 1.

**Its draws are not draws of the posterior.** Those of one measurement differ by e alone, which stands for no doubt that
the data leave: wherever the data are informative, they are too much alike. Their law is right over many measurements
together, not for any one of them.

| paper | here |
| --- | --- |
| X* = f(y), Z_0 = X* + sigma_s eps | `AmortisedProblem.estimate`, x_0 |
| Euler steps, K = 25 | `levels` |
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from infield.core.errors import InfieldError
from infield.core.randomness import Randomness, normal
from infield.physics.measurement import Measurement
from infield.posterior.inference.amortised import check_amortised
from infield.posterior.samplers.accepts import Accepts, trained_model
from infield.posterior.samplers.base import Draws, Estimate, Posterior, Sampler
from infield.priors.amortised.rectified_flow import RectifiedFlow


@dataclass(frozen=True, kw_only=True)
class PMRF(Sampler):
    """Posterior-mean rectified flow, for Gaussian noise of one variance.

    Arguments:
        levels: K, Euler steps, one evaluation of the flow's network each; f is evaluated once for all draws of a block.
    """

    levels: int = 25

    method: ClassVar[str] = "pmrf"
    accepts: ClassVar[Accepts] = trained_model(
        RectifiedFlow, "a posterior-mean rectified flow, trained by `infield fit` with `priors.training.pmrf.PMRF`"
    )
    result: ClassVar[type[Posterior]] = Estimate
    caveat: ClassVar[str | None] = (
        "each sample is an estimate, of least square error among those that look like fields: samples differ by a "
        "little noise that was put in, and their spread is not that of the posterior"
    )

    def __post_init__(self) -> None:
        if self.levels < 1:
            raise InfieldError(where=f"sampler {self.method}", found=f"levels={self.levels}", expected="at least 1")

    def draw(self, prior: Any, measurement: Measurement, n: int, generator: Randomness) -> Draws:
        f_y = check_amortised(self.method, prior, measurement).estimate(prior.mean)
        e = normal(generator, n, prior.event_shape)
        x_t, K = f_y + prior.spread * e, self.levels
        for k in range(K):
            t = e.new_full((n,), k / K)
            x_t = x_t + prior.velocity(x_t, t) / K
        return Draws(x_t)
