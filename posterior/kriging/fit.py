r"""The stationary law, trend and noise level under which point data are most probable.

log p(y | theta) + log p(theta) is maximised over the hyperparameters theta of a few families of laws (orders nu; one
length, a length an axis, turned axes), the coefficients of the trend integrated out (Rasmussen & Williams 2006, eqs.
2.43 and 5.8). The family is the one of largest evidence, each further hyperparameter at the cost of log(n) / 2 (Schwarz
1978). The search starts from a table of lengths and noise levels on some terms of Vecchia's sum (`vecchia`), and ends
on all of them, with neighbours by the law that was found. Of few data the evidence is exact (`dense`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Generator, Tensor

from infield.core.errors import InfieldError
from infield.posterior.kriging.adequacy import laplace_of_white, log_evidence_of_white, warnings_of
from infield.posterior.kriging.dense import Dense
from infield.posterior.kriging.family import TREND_SD, Family, Shape, extents, shown_by
from infield.posterior.kriging.law import ORDERS, Geometry, StationaryLaw
from infield.posterior.kriging.log_posterior import GAIN, LogPosterior, definite
from infield.posterior.kriging.observations import Coefficients, Observations, evenly, location
from infield.posterior.kriging.vecchia import NEIGHBOURS, Vecchia, neighbour_terms

ALL_TERMS = 20_000
"""Terms of the sum on which a fit ends; of more data so many, chosen evenly from their random order, stand for all."""

FIRST_TERMS = 600
"""Terms of the sum from which families are compared first."""

CURVATURE_TERMS = 1200
"""Terms from which the errors of the hyperparameters are estimated."""

MAX_DATA_EXACT = 500
"""Up to so many data a channel the evidence is exact; of more it is Vecchia's approximation."""

SHARES = (0.02, 0.05, 0.1, 0.25, 0.6)
"""Lengths of the first table, in extents of the data."""

NOISES = (0.02, 0.2, 0.6)
"""Noise variances of the first table, in variances of the data around their trend."""

RATIOS = (1 / 8, 1 / 2.5, 2.5, 8)
"""Ratios of two lengths that are tried where axes have their own."""

SHIFTS = (-0.4, 0.0, 0.7, 1.4)
"""Changes of log lengths that are tried where the order changes."""

CONTEST = 12.0
"""Families whose evidence on some terms differs by less are looked at on all; of more data in proportion."""

CLOSE_LOG_EVIDENCE = 3.0
"""Families whose evidence on all terms differs by less are both brought to their optimum there."""

MOVED = 0.2
"""Change of log ratios of lengths, or of the angle, after which neighbours are chosen anew."""

HOPELESS = 10.0
"""More lengths are not looked into where the best of the ratios loses so much log evidence."""


@dataclass(frozen=True)
class Settings:
    """What the user fixes of the fit.

    Arguments:
        orders: Orders nu to choose from.
        shapes: Shapes to choose from; the first is always tried.
        seed: Seed of the order of the data.
        azimuth: Angle of turned axes in radians; None where the data decide.
    """

    orders: tuple[float, ...] = ORDERS
    shapes: tuple[Shape, ...] = ("isotropic", "axes", "turned")
    seed: int = 0
    azimuth: float | None = None


@dataclass(frozen=True)
class Fit:
    """A fitted law with what is known of its hyperparameters.

    Arguments:
        family: Of the law.
        theta: Hyperparameters, standardised.
        covariance: Of theta about its mode (inverse curvature), shape `(theta, theta)`.
        centre: Value that stands for 0 in the standardised data, in units of the field.
        scale: And the one that stands for 1.
        coefficients: Posterior of the trend's coefficients for each channel, in units of the field around `centre`.
        log_evidence: Of all data, in units of the field.
        log_evidence_white: Of white noise around the same trend; its level fitted where the noise's is.
        candidates: Families that were compared, with their penalised log evidence.
        warnings: Faults of the fit; empty if there are none.
        log_bayes_factor: Of the field over white noise, hyperparameters integrated out by Laplace's approximation.
        noise_unit: Factor on the noise variances of the data where that in theta is 1; one a column of several levels.
    """

    family: Family
    theta: Tensor
    covariance: Tensor
    centre: float
    scale: float
    coefficients: tuple[Coefficients, ...]
    log_evidence: float
    log_evidence_white: float
    candidates: dict[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    noise_unit: float | Tensor = 1.0
    log_bayes_factor: float = math.nan

    @property
    def law(self) -> StationaryLaw:
        """In units of the field."""
        return self.family.law(self.theta, self.scale)

    @property
    def noise_factor(self) -> float | Tensor:
        """By which the stand-in noise variances of the data are multiplied; 1 where they are known."""
        return self.noise_factor_at(self.theta)

    def noise_factor_at(self, theta: Tensor) -> float | Tensor:
        """The same under other hyperparameters."""
        factor = self.family.unpack(theta)[3]
        return self.noise_unit * (factor if self.family.several else float(factor))

    @property
    def errors(self) -> tuple[float, ...]:
        """Standard deviations of theta about its mode."""
        return tuple(self.covariance.diagonal().sqrt().tolist())


def fit(
    channels: Sequence[Observations], geometry: Geometry, *, noise_known: bool, settings: Settings | None = None
) -> Fit:
    """Fit one law to the data of all channels.

    Arguments:
        channels: Data of each channel; the channels are independent fields of one law.
        geometry: Of the domain.
        noise_known: Whether `noise` is known, or known up to one unknown factor.
        settings: What is fixed.

    Raises:
        InfieldError: If the data are fewer than the trend has terms, or all equal.
    """
    return Fitting(channels, geometry, noise_known, settings or Settings()).result()


class Fitting:
    """One search; see `fit` for the arguments."""

    def __init__(
        self, channels: Sequence[Observations], geometry: Geometry, noise_known: bool, settings: Settings
    ) -> None:
        terms = max(
            data.design.shape[1] if data.prior_sd is None else int(data.prior_sd.isinf().sum()) for data in channels
        )
        self.count = sum(len(data) for data in channels)
        if any(len(data) <= terms for data in channels):
            fewest = min(len(data) for data in channels)
            raise InfieldError(
                where="fit of a prior to the data",
                found=f"{fewest} data",
                expected=f"more than the {terms} terms of the trend",
                remedy="name a prior with {prior}",
                parameters=["prior"],
            )
        self.geometry, self.noise_known, self.settings = geometry, noise_known, settings
        self.several = channels[0].noise.ndim > 1
        self.levels = channels[0].noise.shape[1] - 1 if self.several else int(not noise_known)
        generator = Generator().manual_seed(settings.seed)
        shuffled = [data.at(torch.randperm(len(data), generator=generator)) for data in channels]
        self.centre, self.scale = location(shuffled)
        self.noise_unit = 1.0 if noise_known else self._unit(torch.cat([data.noise for data in shuffled]))
        self.channels = [self._standardised(data) for data in shuffled]
        self.shown = shown_by(self.channels[0])
        self.extents = extents(geometry, torch.cat([data.x for data in shuffled]))

    def _standardised(self, data: Observations) -> Observations:
        noise = data.noise * self.noise_unit / self.scale**2
        return replace(data, y=(data.y - self.centre) / self.scale, noise=noise)

    def _unit(self, noise: Tensor) -> float | Tensor:
        """What makes the variances of an unknown level those of the data."""
        if noise.ndim == 1:
            return self.scale**2 / float(noise.mean())
        means = noise.sum(0) / (noise > 0).sum(0).clamp_min(1)
        means[-1] = self.scale**2
        return self.scale**2 / means

    def prior_variance(self, data: Observations) -> Tensor:
        """Of the coefficients of trend and shared noise, standardised."""
        return (data.terms_sd(TREND_SD * self.scale) / self.scale) ** 2

    def family(self, nu: float, shape: Shape) -> Family:
        return Family(self.geometry, nu, shape, self.extents, self.levels, self.several, self.settings.azimuth,
                      *self.shown)  # fmt: skip

    def shapes(self) -> list[Shape]:
        """Shapes that this geometry has, in order of their number of lengths."""
        shapes: list[Shape] = ["isotropic"]
        if set(self.family(1.5, "axes").sharing) != set(self.geometry.groups):
            shapes.append("axes")
        planar = self.geometry.planar
        if len(planar) >= 2 and any(set(planar[:2]) <= set(group) for group in self.geometry.groups):
            shapes.append("turned")
        return [shape for shape in shapes if shape in self.settings.shapes] or ["isotropic"]

    # the objective

    def evidence(self, family: Family, theta: Tensor, most: int | None) -> LogPosterior:
        """The evidence near theta: neighbours by its law; of at most so many terms a channel."""
        parts: list[Dense | Vecchia] = []
        for data in self.channels:
            if len(data) <= MAX_DATA_EXACT:
                parts.append(Dense(data, self.prior_variance(data), family.nu))
                continue
            z, _, _ = family.kernel(theta, data.x)
            chosen = evenly(len(data), len(data) if most is None else most)
            terms = neighbour_terms(z, chosen, NEIGHBOURS)
            parts.append(Vecchia(data, terms, self.prior_variance(data), family.nu, len(data) / len(chosen)))
        return LogPosterior(family, parts)

    def first_guess(self, family: Family) -> Tensor:
        """The best entry of a table of lengths and noise levels."""
        mean, _ = family.prior
        noises = (None,) if self.noise_known else NOISES
        known = float(torch.cat([data.noise for data in self.channels]).mean()) if self.noise_known else 0.0
        lengths = slice(1, 1 + len(family.sharing))
        best, best_value = mean, -math.inf
        for share in SHARES:
            theta = mean.clone()
            theta[lengths] = mean[lengths] + math.log(share / 0.25)
            evidence = self.evidence(family, theta, FIRST_TERMS // 2)
            for noise in noises:
                theta = theta.clone()
                theta[0] = math.log(max(1 - (known if noise is None else noise), 0.1))
                if noise is not None:
                    theta[len(theta) - family.noise :] = math.log(noise)
                value = evidence.value(theta)
                if value > best_value:
                    best, best_value = theta, value
        return best

    def widened(self, family: Family, narrower: Family, theta: Tensor) -> tuple[Tensor, float]:
        """Where to start a family of more lengths from the optimum of another, and what other lengths gain at best.

        Some ratios of one length to those that it may share are tried on some terms; of turned axes some angles too.
        """
        variance, lengths, azimuth, factor = narrower.unpack(theta)
        as_before = family.packed(variance, lengths, azimuth, factor)
        if family.shape == "turned":
            tried = [(self.geometry.planar[0], self.geometry.planar[:2])]
            angles: list[float | None] = [k * math.pi / 4 for k in range(4)] if family.turns else [family.azimuth]
        else:
            shared = [group for group in self.geometry.groups if len(group) > 1 and group != self.geometry.on_sphere]
            tried = [(i, group) for group in shared for i in (group if len(group) > 2 else group[:1])]
            angles = [None]
        starts = []
        for i, group in tried:
            for ratio in RATIOS:
                changed = lengths.clone()
                changed[list(group)] /= ratio ** (1 / len(group))
                changed[i] *= ratio
                for angle in angles:
                    turned = None if angle is None else lengths.new_tensor(angle)
                    starts.append(family.packed(variance, changed, turned, factor))
        own, *others = (self.evidence(family, s, FIRST_TERMS // 2).value(s) for s in (as_before, *starts))
        best = max(range(len(others)), key=others.__getitem__)
        return starts[best] if others[best] > own else as_before, others[best] - own

    def lengthened(self, family: Family, theta: Tensor) -> Tensor:
        """Where to start another order from the optimum of one: rougher laws have longer lengths."""
        lengths = torch.zeros_like(theta)
        lengths[1 : 1 + len(family.sharing)] = 1.0
        evidence = self.evidence(family, theta, FIRST_TERMS // 2)
        starts = [theta + shift * lengths for shift in SHIFTS]
        return max(starts, key=evidence.value)

    def climb(
        self, family: Family, theta: Tensor, most: int | None, H: Tensor | None = None
    ) -> tuple[Tensor, LogPosterior]:
        """The optimum from theta on, neighbours chosen anew where it has moved; H as for `LogPosterior.maximum`."""
        evidence = self.evidence(family, theta, most)
        few = most is not None and most < self.count // len(self.channels)
        gain = GAIN * (5 * self.count / most if few and most else 1.0)
        found = evidence.maximum(theta, H, gain)
        if _moved(family, theta, found) > MOVED:
            evidence = self.evidence(family, found, most)
            found = evidence.maximum(found, H, gain)
        return found, evidence

    # the search

    def result(self) -> Fit:
        """Compare families on some terms, bring the best to their optimum on all, and describe it."""
        optima: dict[str, _Optimum] = {}

        def tried(family: Family, start: Tensor, H: Tensor | None = None) -> _Optimum:
            theta, evidence = self.climb(family, start, FIRST_TERMS, H)
            if H is None:
                H = definite(evidence.curvature(theta))
            value = self.evidence(family, theta, 4 * FIRST_TERMS).penalised(theta, self.count)
            optima[_name(family)] = _Optimum(family, theta, H, value)
            return optima[_name(family)]

        middle = 1.5 if 1.5 in self.settings.orders else self.settings.orders[0]
        first, *wider = self.shapes()
        family = self.family(middle, first)
        best = tried(family, self.first_guess(family))
        for shape in wider:
            family = self.family(middle, shape)
            start, gain = self.widened(family, best.family, best.theta)
            if gain > -HOPELESS:
                best = max(best, tried(family, start), key=lambda optimum: optimum.value)
        for nu in self.settings.orders:
            if nu != middle:
                other = replace(best.family, nu=nu)
                tried(other, self.lengthened(other, best.theta), best.H)
        candidates = {name: optimum.value for name, optimum in optima.items()}
        finalists = sorted(optima.values(), key=lambda optimum: -optimum.value)
        return self.described(*self.final(finalists, candidates), candidates)

    def final(self, finalists: list[_Optimum], candidates: dict[str, float]) -> tuple[Family, Tensor, LogPosterior]:
        """The best on all terms: the first is brought to its optimum, others where they may still be better."""
        best, *others = finalists
        theta, evidence = self.climb(best.family, best.theta, ALL_TERMS, best.H)
        family, value = best.family, evidence.penalised(theta, self.count)
        shift = theta - best.theta
        candidates[_name(family)] = value
        for other in others:
            if other.value < best.value - CONTEST * max(self.count / (4 * FIRST_TERMS), 1.0):
                continue
            start = other.theta + shift if other.family.shape == best.family.shape else other.theta
            at = replace(
                evidence, family=other.family, parts=[replace(part, nu=other.family.nu) for part in evidence.parts]
            )
            if self.count <= 4 * FIRST_TERMS:
                own = other.value
            else:
                own = candidates[_name(other.family)] = at.penalised(start, self.count)
            if own < value - CLOSE_LOG_EVIDENCE:
                continue
            theta_own, evidence_own = self.climb(other.family, start, ALL_TERMS, other.H)
            own = candidates[_name(other.family)] = evidence_own.penalised(theta_own, self.count)
            if own > value:
                family, theta, evidence, value = other.family, theta_own, evidence_own, own
        return family, theta, evidence

    def described(self, family: Family, theta: Tensor, evidence: LogPosterior, candidates: dict[str, float]) -> Fit:
        """The fit with errors, evidence and warnings."""
        covariance = torch.linalg.inv(definite(self.evidence(family, theta, CURVATURE_TERMS).curvature(theta)))
        to_units = self.count * math.log(self.scale)
        log_evidence = evidence.log_evidence(theta) - to_units
        white = log_evidence_of_white(self.channels, self.prior_variance, self.noise_known) - to_units
        favour = log_evidence - white + float(family.log_prior(theta) + 0.5 * torch.logdet(2 * math.pi * covariance))
        favour -= laplace_of_white(self.channels, self.noise_known)
        return Fit(
            family,
            theta,
            covariance,
            self.centre,
            self.scale,
            tuple(c.scaled(self.scale) for c in evidence.coefficients(theta)),
            log_evidence,
            white,
            candidates,
            warnings_of(family, theta, covariance.diagonal().sqrt(), favour, self.channels, self.noise_known),
            noise_unit=self.noise_unit,
            log_bayes_factor=favour,
        )


@dataclass(frozen=True)
class _Optimum:
    """A family at its optimum on some terms: theta, minus the curvature there, and the penalised log evidence."""

    family: Family
    theta: Tensor
    H: Tensor
    value: float


def _name(family: Family) -> str:
    return f"nu {family.nu:g}, {family.shape}"


def _moved(family: Family, a: Tensor, b: Tensor) -> float:
    """Change of what decides on neighbours: ratios of lengths, and the angle."""
    (_, lengths, azimuth, _), (_, others, other, _) = family.unpack(a), family.unpack(b)
    ratios = (others / lengths).log()
    turned = 0.0 if azimuth is None or other is None else float((other - azimuth).abs())
    return max(float(ratios.max() - ratios.min()), turned)
