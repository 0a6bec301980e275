r"""Draws of the hyperparameters of a stationary law given point data, by adaptive importance sampling.

Each family of laws has the posterior

    p(theta | y) = p(y | theta) p(theta) / Z,

trend integrated out (`fit`). Proposals start from Student's t at the mode, beside the hyperprior where data are few,
and become mixtures of t kernels about the weighted draws so far, shrunk to their mean so that the mixture has the
variance of the draws (West 1993, J. R. Stat. Soc. B 55, 409). With N_r draws from the r-th proposal q_r, N in all,
every draw has the weight

    w = p(y | theta) p(theta) / sum_r (N_r / N) q_r(theta)

(Owen & Zhou 2000, J. Am. Stat. Assoc. 95, 135, eq. 8; Cornuet et al. 2012, Scand. J. Stat. 39, 798). The mean of w
estimates Z, by which orders nu share the posterior. State i is drawn from all weighted draws by a uniform number of its
own: it depends on the seed and i alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Generator, Tensor

from infield.core.randomness import SampleStreams
from infield.posterior.kriging.dense import Dense
from infield.posterior.kriging.family import Family
from infield.posterior.kriging.fit import ALL_TERMS, Fit, Fitting, Settings
from infield.posterior.kriging.law import ORDERS, Geometry, StationaryLaw
from infield.posterior.kriging.observations import Coefficients, Observations
from infield.posterior.kriging.vecchia import Whitened

WITHIN = 6.0
"""Orders whose penalised log evidence lies within this of the best share the posterior."""

TARGET_ESS = 100.0
"""Effective number of draws that is aimed at."""

DEGREES_OF_FREEDOM = 5.0
"""Of the t kernels."""

PRIOR_SHARE = 0.2
"""Of the first draws that come from the hyperprior, where the evidence is exact."""

DRAWS_PER_PROPOSAL = 180
"""Draws from a proposal."""

MIN_ORDER_FRACTION = 0.25
"""Share of draws for an order of little evidence."""

MAX_PROPOSALS = 12
"""At most so many proposals."""

QUARTER = math.pi / 4
"""Half-width of the angles: turned axes a quarter turn apart, their lengths exchanged, are the same law."""

STREAM = 18
"""Sets the random numbers of the hyperparameters apart from those of the field under the same seed."""


@dataclass(frozen=True)
class Chain:
    """Draws of the hyperparameters; state i is for sample i.

    Arguments:
        states: Standardised hyperparameters, shape `(S, theta)`.
        families: Family of each state.
        laws: Law of each state, in units of the field.
        noise_factors: By which the noise variances of the data are multiplied in each state, shape `(S,)`, or of
            several levels `(S, levels + 1)`.
        coefficients: Of the trend, for each state and channel, in units of the field around the fit's centre.
        effective: Effective number of draws, 1 / sum of squared normalised weights.
        evaluations: How often the evidence was evaluated.
        orders: Posterior probability of each order.
        warnings: Faults of the draws; empty if there are none.
    """

    states: Tensor
    families: tuple[Family, ...]
    laws: tuple[StationaryLaw, ...]
    noise_factors: Tensor
    coefficients: tuple[tuple[Coefficients, ...], ...]
    effective: float
    evaluations: int
    orders: dict[float, float]
    warnings: tuple[str, ...] = ()


def sample(
    fit: Fit,
    channels: Sequence[Observations],
    geometry: Geometry,
    *,
    noise_known: bool,
    states: int = 64,
    seed: int,
) -> Chain:
    """Draw hyperparameters from their posterior.

    Arguments:
        fit: The fit to the same data.
        channels: Data of each channel, as they were fitted.
        geometry: Of the domain.
        noise_known: As it was fitted.
        states: S, the number of states.
        seed: Of the run.
    """
    fitting = Fitting(channels, geometry, noise_known, Settings(seed=seed))
    start, *numbers = (int(k) for k in np.random.SeedSequence([seed, STREAM]).generate_state(4, np.uint32))
    known = _families(fit)
    runs = [
        _Posterior.of(fitting, replace(fit.family, nu=nu), fit).run(Generator().manual_seed(start + j), share)
        for j, (nu, share) in enumerate(known.items())
    ]
    log_z = torch.stack([run.log_mean_weight for run in runs])
    shares = log_z.softmax(0)
    weights = torch.cat([share * run.weights for share, run in zip(shares, runs, strict=True)])
    effective = float(1 / weights.square().sum())

    uniform = torch.special.ndtr(SampleStreams(numbers[0], range(states)).normal(()))
    places = torch.searchsorted(weights.cumsum(0) * (1 - 1e-12), uniform).clamp_max(len(weights) - 1)
    ends = torch.tensor([len(run.theta) for run in runs]).cumsum(0)
    theta, families, coefficients = [], [], []
    for place in places:
        j = int(torch.searchsorted(ends, place, right=True))
        row = int(place - (ends[j - 1] if j else 0))
        theta.append(runs[j].theta[row])
        families.append(runs[j].family)
        coefficients.append(tuple(c.scaled(fit.scale) for c in runs[j].coefficients(row)))
    warnings: tuple[str, ...] = ()
    if effective < TARGET_ESS:
        warnings = (f"the uncertainty of the hyperparameters rests on {effective:.0f} effective draws, "
                    f"fewer than {TARGET_ESS:.0f}",)  # fmt: skip
    return Chain(
        torch.stack(theta),
        tuple(families),
        tuple(family.law(t, fit.scale) for family, t in zip(families, theta, strict=True)),
        torch.stack([fit.noise_unit * family.unpack(t)[3] for family, t in zip(families, theta, strict=True)]),
        tuple(coefficients),
        effective,
        sum(len(run.theta) for run in runs),
        dict(zip(known, shares.tolist(), strict=True)),
        warnings,
    )


def _families(fit: Fit) -> dict[float, float]:
    """Orders with about as much evidence as that of the fit, which comes first, and their evidence relative to it."""
    shares = {fit.family.nu: 1.0}
    values = {nu: fit.candidates.get(f"nu {nu:g}, {fit.family.shape}", -math.inf) for nu in ORDERS}
    lost = {nu: values[fit.family.nu] - value for nu, value in values.items() if nu != fit.family.nu}
    return shares | {nu: math.exp(min(-loss, 0.0)) for nu, loss in lost.items() if loss < WITHIN}


@dataclass(frozen=True)
class _Kernels:
    """Mixture of t kernels of one shape, and of the hyperprior: a proposal q.

    Arguments:
        centres: Shape `(kernels, theta)`.
        weights: Of the kernels, shape `(kernels,)`.
        root: Lower root of their scale matrix.
        prior: Share of the hyperprior.
        of_prior: Its means and standard deviations; of the angle, its centre and infinity.
    """

    centres: Tensor
    weights: Tensor
    root: Tensor
    prior: float
    of_prior: tuple[Tensor, Tensor]

    def draw(self, n: int, generator: Generator) -> Tensor:
        size = self.centres.shape[1]
        which = torch.multinomial(self.weights, n, replacement=True, generator=generator)
        normal = torch.randn((n, size), generator=generator, dtype=torch.float64)
        half = torch.full((n, 1), DEGREES_OF_FREEDOM / 2, dtype=torch.float64)
        gamma = torch._standard_gamma(half, generator=generator)
        theta = self.centres[which] + (half / gamma).sqrt() * normal @ self.root.mT
        mean, sd = self.of_prior
        uniform = torch.rand((n, size), generator=generator, dtype=torch.float64)
        free = mean + torch.where(sd.isinf(), QUARTER * (2 * uniform - 1), sd.nan_to_num(posinf=0.0) * normal)
        from_prior = torch.arange(n) < round(self.prior * n)
        return torch.where(from_prior[:, None], free, theta)

    def log_density(self, theta: Tensor) -> Tensor:
        size, nu = self.centres.shape[1], DEGREES_OF_FREEDOM
        a = torch.linalg.solve_triangular(self.root, theta.mT, upper=False).mT
        b = torch.linalg.solve_triangular(self.root, self.centres.mT, upper=False).mT
        squares = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").square()
        constant = math.lgamma((nu + size) / 2) - math.lgamma(nu / 2) - size / 2 * math.log(nu * math.pi)
        constant = constant - float(self.root.diagonal().log().sum())
        of_t = constant + torch.logsumexp(self.weights.log() - (nu + size) / 2 * torch.log1p(squares / nu), 1)
        if not self.prior:
            return of_t
        return torch.logaddexp(math.log1p(-self.prior) + of_t, math.log(self.prior) + self._log_prior(theta))

    def _log_prior(self, theta: Tensor) -> Tensor:
        mean, sd = self.of_prior
        flat = sd.isinf()
        normal = -0.5 * ((theta - mean) / sd).square() - sd.log() - 0.5 * math.log(2 * math.pi)
        inside = torch.where((theta - mean).abs() <= QUARTER, -math.log(2 * QUARTER), -math.inf)
        return torch.where(flat, inside, normal).sum(1)


@dataclass
class _Posterior:
    """Draws of one family's theta with their weights."""

    fitting: Fitting
    family: Family
    mode: Tensor
    spread: Tensor
    proposals: list[_Kernels] = field(default_factory=list)
    counts: list[int] = field(default_factory=list)
    theta: Tensor = field(init=False)
    log_target: Tensor = field(init=False)
    log_weights: Tensor = field(init=False)

    @classmethod
    def of(cls, fitting: Fitting, family: Family, fit: Fit) -> _Posterior:
        """At the mode of a family; that of another order than was fitted is found first."""
        mode = fit.theta
        if family.nu != fit.family.nu:
            mode, _ = fitting.climb(family, mode, ALL_TERMS)
        return cls(fitting, family, mode, tamed(fit.covariance, family))

    def __post_init__(self) -> None:
        self.evidence = self.fitting.evidence(self.family, self.mode, None)
        self.exact = all(isinstance(part, Dense) for part in self.evidence.parts)
        size = len(self.mode)
        self.theta, self.log_target = torch.empty((0, size), dtype=torch.float64), torch.empty(0, dtype=torch.float64)

    def run(self, generator: Generator, relative: float) -> _Posterior:
        """Draw and adapt until the weights are worth enough draws, fewer for an order of less evidence."""
        part = max(relative, MIN_ORDER_FRACTION)
        batch, target = round(part * DRAWS_PER_PROPOSAL), part * 1.2 * TARGET_ESS
        mean, sd = self.family.prior
        around = torch.where(sd.isinf(), self.mode, mean)
        share = PRIOR_SHARE if self.exact else 0.0
        root = torch.linalg.cholesky(1.2 * self.spread)
        proposal = _Kernels(self.mode[None], torch.ones(1, dtype=torch.float64), root, share, (around, sd))
        for _ in range(MAX_PROPOSALS):
            self._extend(proposal, batch, generator)
            if float(1 / self.weights.square().sum()) >= target:
                break
            proposal = self._adapted((around, sd))
        return self

    @property
    def weights(self) -> Tensor:
        """Normalised."""
        return self.log_weights.softmax(0)

    @property
    def log_mean_weight(self) -> Tensor:
        """log Z, but for constants that all orders share."""
        return torch.logsumexp(self.log_weights, 0) - math.log(len(self.theta))

    def coefficients(self, row: int) -> list[Coefficients]:
        """Of the trend in each channel, standardised.

        They are computed once more: thousands of small sums kept between large matrices leave the heap in pieces.
        """
        found = self._whitened(self.theta[row])
        assert found is not None  # a draw of positive weight has evidence
        return [
            sums.coefficients(self.fitting.prior_variance(data))
            for sums, data in zip(found, self.fitting.channels, strict=True)
        ]

    def _extend(self, proposal: _Kernels, n: int, generator: Generator) -> None:
        theta = proposal.draw(n, generator)
        self.proposals.append(proposal)
        self.counts.append(n)
        self.theta = torch.cat([self.theta, theta])
        self.log_target = torch.cat(
            [self.log_target, torch.tensor([self._log_target(t) for t in theta], dtype=torch.float64)]
        )
        shares = torch.tensor(self.counts, dtype=torch.float64).log() - math.log(len(self.theta))
        log_q = torch.stack([q.log_density(self.theta) for q in self.proposals], 1)
        self.log_weights = self.log_target - torch.logsumexp(shares + log_q, 1)

    def _adapted(self, of_prior: tuple[Tensor, Tensor]) -> _Kernels:
        """Kernels about the draws so far (West 1993, sec. 3), their shape closer to the first one where few count."""
        weights, size = self.weights, len(self.mode)
        effective = float(1 / weights.square().sum())
        mean = weights @ self.theta
        around = self.theta - mean
        V = (effective * (weights[:, None] * around).mT @ around + size * self.spread) / (effective + size)
        h = (4 / ((size + 2) * effective)) ** (1 / (size + 4))
        centres = mean + math.sqrt(max(1 - h**2, 0.0)) * around
        used = weights > 1e-12
        scale = h**2 * (DEGREES_OF_FREEDOM - 2) / DEGREES_OF_FREEDOM
        return _Kernels(centres[used], weights[used], torch.linalg.cholesky(scale * V), 0.0, of_prior)

    def _log_target(self, theta: Tensor) -> float:
        """log p(y | theta) p(theta); minus infinity beyond the angles, and where rounding ends the evidence."""
        beyond = self.family.shape == "turned" and bool(
            ((theta - self.mode).abs() > QUARTER)[self.family.prior[1].isinf()].any()
        )
        sums = None if beyond else self._whitened(theta)
        if sums is None:
            return -math.inf
        total = float(self.family.log_prior(theta))
        for own, data in zip(sums, self.fitting.channels, strict=True):
            total += float(own.log_evidence(self.fitting.prior_variance(data)))
        return total if math.isfinite(total) else -math.inf

    def _whitened(self, theta: Tensor) -> list[Whitened] | None:
        try:
            return [part.whitened(lambda x: self.family.kernel(theta, x)) for part in self.evidence.parts]
        except torch.linalg.LinAlgError:
            return None


def tamed(covariance: Tensor, family: Family) -> Tensor:
    """Covariance about the mode, nowhere wider than the hyperprior, or than the angles."""
    sd = family.prior[1]
    widest = torch.where(sd.isinf(), torch.full_like(sd, QUARTER / 2), sd)
    own = covariance.diagonal().sqrt()
    shrink = (widest / own).clamp_max(1.0)
    tamed = shrink[:, None] * covariance * shrink
    return tamed + 1e-9 * torch.eye(len(sd), dtype=tamed.dtype)
