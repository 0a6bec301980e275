r"""Flow annealing posterior sampling with the flow-consistent local conditional.

Shi, Ross & Yue 2026, "Flow Annealing Posterior Sampling for Function-Space Regression and Inverse Problems" (arXiv
2606.22346) anneal a field from the source to data: at each level an estimate of u_1 is corrected by the data and
bridged back to the next level. Their local conditional of u_1 given u_t is N(flow endpoint, lambda^2 C);
`posterior.samplers.faps_published` has it as published. Here it is the law that the flow itself implies for a prior of
covariance C,

    u_1 | u_t ~ N( u_t + (1 - t) v(u_t, t),  C - t^2 C P^{-1} C ),    P = t^2 C + (1 - t)^2 C_0,

so that for a Gaussian prior every level, even a single one, is exact; for other priors the mean stays exact and the
covariance is the Gaussian one. Linear data with Gaussian noise are conditioned on in closed form. For other operators
and noise models the local conditional is sampled by Metropolis-corrected Langevin steps that a linearisation of the
data preconditions (`posterior.inference.langevin`); a chain continues at the next level from its state, which costs no
evaluation. All chains start around one most probable field: where the data leave several fields far apart, as u^2
leaves the sign of u, they find one of them; the slow `posterior.samplers.elliptical_slice` with its rungs looks for the
others.

| paper | here |
| --- | --- |
| u_t = t u_1 + (1 - t) u_0 | the same, sigma_min = 0 |
| gamma = N(0, C_0), `prior.source` | C_0 |
| K levels t_k = k / K | `levels` |
| M Euler steps to the endpoint | one velocity call |
| J Langevin steps | a draw in closed form, or `steps` in all levels together |
| C, preconditioner | Gamma, the posterior covariance of the linearised data under the local conditional |
| h | adapts, one a chain |
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import fmean
from typing import ClassVar, Protocol

from torch import Tensor

from infield.core.errors import InfieldError
from infield.core.randomness import Randomness, normal
from infield.physics.measurement import Measurement
from infield.posterior.inference.constraints import LinearConstraints, PosteriorCovariance
from infield.posterior.inference.langevin import ChainState, check_finite, langevin, start
from infield.posterior.inference.laplace import LaplaceApproximation, Linearisation, find_map
from infield.posterior.inference.linear_gaussian import BATCH_ENTRIES, LinearGaussianData
from infield.posterior.inference.whitening import Whitening
from infield.posterior.samplers.base import Draws, Sampler
from infield.priors.base import FlowPrior, denoise
from infield.priors.covariance.base import Covariance
from infield.priors.gaussian.bridge import Bridge

LEVELS = 40
"""K of the paper, for priors that are not Gaussian."""


@dataclass(frozen=True, kw_only=True)
class FAPS(Sampler):
    """FAPS with the flow-consistent law, for any operator with a derivative and any noise model.

    Arguments:
        levels: K; None takes 1 where the prior is Gaussian, since one level then is exact, and the paper's 40
            elsewhere.
        steps: Langevin steps of a chain in all levels together, each one forward and one backward pass. Of no
            consequence where the data are linear and the noise Gaussian.
        ramp: How these steps are spread: ((k + 1) / K)^ramp of them are done by the end of level k. Levels without a
            step, the earliest, draw from the linearised data.
        rank: Most directions of the field in which the data are linearised; fewer are taken where they suffice.
        closed_form: Whether linear data with Gaussian noise are conditioned on in closed form; if not, by a chain.
        tolerance: Where conjugate gradients stop in the closed form, for data too many for matrices: their error in
            posterior standard deviations, root mean square over the field. Errors of levels add up, and where few modes
            of the field are measured they are all in these: 0.01 suffices there.
        conservation: Constraints on the field in its units, which the closed form keeps at every level; where there is
            a chain, `posterior.inference.constraints.ConstrainedSampler` keeps them at the end.
    """

    levels: int | None = None
    steps: int = 120
    ramp: float = 2.0
    rank: int = 256
    closed_form: bool = True
    tolerance: float = 0.1
    conservation: LinearConstraints | None = None

    method: ClassVar[str] = "faps-flow"

    def __post_init__(self) -> None:
        if self.levels is not None and self.levels < 1:
            raise InfieldError(where="sampler faps", found=f"levels {self.levels}", expected="at least 1")
        if self.steps < 1 or self.rank < 1 or not self.ramp > 0 or not self.tolerance > 0:
            raise InfieldError(
                where="sampler faps",
                found=f"steps={self.steps}, rank={self.rank}, ramp={self.ramp}, tolerance={self.tolerance}",
                expected="steps and rank of at least 1, a positive ramp and tolerance",
            )

    def block_of(self, measurement: Measurement) -> int:
        """Samples that conjugate gradients would treat one by one are drawn so."""
        block = self.block
        together = max(8 * BATCH_ENTRIES // math.prod(measurement.y.shape[1:]), 1)
        return min(block, together) if measurement.linear_gaussian and self.closed_form else block

    def draw(self, prior: FlowPrior, measurement: Measurement, n: int, generator: Randomness) -> Draws:
        K = self.levels or (1 if prior.gaussian else LEVELS)
        C, C_0 = prior.covariance, prior.source
        local = self.local_law(prior, measurement)

        def source() -> Tensor:
            white = normal(generator, n, C_0.event_shape, C_0.diagonal.device)
            return C_0.colour(white)

        u_t = u_1 = source()
        for k in range(K):
            t, t_next = k / K, (k + 1) / K
            m = denoise(prior, u_t, t)  # E[u_1 | u_t], exact for any prior
            check_finite(m, generator, f"in the prior's estimate, level {k} of {K}")
            steps = round(self.steps * t_next**self.ramp) - round(self.steps * t**self.ramp)
            with level(k, K):
                u_1 = local.draw(m, Bridge(C, C_0, t).conditional(), steps, generator)  # N(u_1; m, K_t) p(y | u_1)
            if t_next < 1:
                u_t = t_next * u_1 + (1 - t_next) * source()  # bridge to the next level
        return Draws(u_1, local.diagnostics)

    def local_law(self, prior: FlowPrior, measurement: Measurement) -> ConditionalSampler:
        """How u_1 given u_t and the data is drawn."""
        if measurement.linear_gaussian and self.closed_form:
            constraints = self.conservation
            if constraints is not None:
                constraints = constraints.standardised(prior.standardisation, prior.source.event_shape)
            data = LinearGaussianData(measurement, prior.covariance.modes, tolerance=self.tolerance)
            return GaussianConditional(data, constraints)
        if self.conservation is not None:
            raise InfieldError(
                where="sampler faps: conservation",
                found="a nonlinear operator or other noise",
                expected="a linear operator and Gaussian noise",
                remedy="wrap the sampler: ConstrainedSampler(sampler=FAPS(), conservation=...)",
            )
        whitening = Whitening(prior.covariance)
        return LangevinConditional(measurement, find_map(measurement, prior.mean[None], whitening, self.rank))


@contextmanager
def level(k: int, K: int) -> Iterator[None]:
    """Add the level to the error of an operator."""
    try:
        yield
    except InfieldError as error:
        raise error.within(f"sampler faps, level {k} of {K}") from error


class ConditionalSampler(Protocol):
    """Draws of N(u; m, K) p(y | u)."""

    def draw(self, mean: Tensor, covariance: Covariance, steps: int, generator: Randomness) -> Tensor:
        """One draw for each m of shape `(batch, channel, *space)`, by at most `steps` steps if it takes steps."""
        ...

    @property
    def diagnostics(self) -> dict[str, float]:
        """What it reports of itself."""
        ...


@dataclass(frozen=True)
class GaussianConditional:
    """The local conditional of linear data with Gaussian noise, and of constraints on standardised fields."""

    data: LinearGaussianData
    constraints: LinearConstraints | None = None

    def draw(self, mean: Tensor, covariance: Covariance, steps: int, generator: Randomness) -> Tensor:
        u = self.data.draw(mean, covariance, generator)
        if self.constraints is None:
            return u
        return self.constraints.condition(u, PosteriorCovariance(self.data, covariance), generator)

    @property
    def diagnostics(self) -> dict[str, float]:
        return {}


@dataclass
class LangevinConditional:
    """The local conditional of any data: chains that continue from level to level.

    Arguments:
        measurement: Any operator, any noise model.
        linearisation: Of the data, for all levels and all chains; it depends on no chain, so that a sample is
            independent of the rest of the batch.
    """

    measurement: Measurement
    linearisation: Linearisation
    chains: ChainState | None = field(default=None, init=False)
    last: int = field(default=0, init=False)

    def draw(self, mean: Tensor, covariance: Covariance, steps: int, generator: Randomness) -> Tensor:
        posterior = LaplaceApproximation(self.linearisation, Whitening(covariance))
        if self.chains is None:
            white = posterior.whitening.white(normal(generator, len(mean), (mean[0].numel(),), mean.device))
            u = mean + posterior.whitening.colour(posterior.mean(mean) + posterior.root(white))
            if steps == 0:
                return u
            self.chains = start(self.measurement, u, self.linearisation.at, generator)
        self.last = steps
        self.chains = langevin(self.chains, self.measurement, mean, posterior, steps, generator)
        return self.chains.u

    @property
    def diagnostics(self) -> dict[str, float]:
        """Acceptance over all levels and at the last, the median final step, and the share of impossible proposals."""
        chains = self.chains
        if chains is None or not chains.acceptance:
            return {}
        return {
            "acceptance": fmean(chains.acceptance),
            "acceptance_last": fmean(chains.acceptance[-self.last :]),
            "step": float(chains.step.median()),
            "impossible": fmean(chains.impossible),
        }
