"""A field given point data, under the law that was fitted to them: moments, joint draws, and the fit as a prior."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor

from infield.core.brief import Brief
from infield.core.errors import InfieldError
from infield.core.grid import Axis, Grid, PointSet
from infield.core.randomness import Randomness
from infield.physics.measurement import Measurement
from infield.posterior.kriging.fit import Fit, Settings, fit
from infield.posterior.kriging.hyperparameters import sample
from infield.posterior.kriging.joint import Joint, some_targets
from infield.posterior.kriging.laplace import about_the_mode, unsettled
from infield.posterior.kriging.law import EARTH_RADIUS
from infield.posterior.kriging.local import Moments, moments
from infield.posterior.kriging.measured import PointData, TrendKind, point_data
from infield.posterior.kriging.observations import Observations, evenly, noise_variances
from infield.posterior.kriging.state import State
from infield.priors.gaussian.kernels import Matern
from infield.priors.gaussian.prior import GaussianPrior, gaussian_prior

SAMPLED = 500
"""Up to so many data hyperparameters are drawn from their posterior by default."""

UNSETTLED = 0.05
"""Of more data they are drawn where they move the log of the field's standard deviation by more than this."""

CHAINED = 4000
"""Of still more data they are then drawn by Laplace's approximation, which costs no evaluation of the evidence."""

FEWEST_STATES, MOST_STATES, STATE_TARGETS = 8, 32, 1_000_000
"""Numbers of draws of the hyperparameters, and of targets times draws beyond which there are fewer."""

Hyper = Literal["auto", "sample", "plug-in"]


@dataclass(frozen=True, eq=False, repr=False)
class FittedField(Brief):
    """The field of a measurement at point positions, under a law fitted to it.

    Arguments:
        data: What was measured.
        grid: Where the field is predicted.
        units: Of the field.
        fit: The law, by its most probable hyperparameters.
        states: Hyperparameters: those of the fit alone, or draws of their posterior.
        about_states: What is known of the draws of the hyperparameters, for the file.
    """

    data: PointData
    grid: Grid | PointSet
    units: str
    fit: Fit
    states: tuple[State, ...]
    about_states: dict[str, Any] = field(default_factory=dict)
    _joint: Joint = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(
            self, "_joint", Joint(self.data, self.grid, self.states, State.of(self.fit), self.fit.centre)
        )

    def about(self) -> dict[str, object]:
        """What a short description shows."""
        return {"law": self.name, "grid": self.grid.shape, "units": self.units, "states": len(self.states)}

    @classmethod
    def of(
        cls,
        measurement: Measurement,
        *,
        trend: TrendKind = "constant",
        covariates: Sequence[str] = (),
        settings: Settings | None = None,
        hyper: Hyper = "auto",
        seed: int = 0,
    ) -> FittedField:
        """Fit a law to a measurement that `is_point_data`.

        Arguments:
            measurement: Values at points.
            trend: Functions of position around which the field varies.
            covariates: Fields of the measurement's context on which its mean depends linearly.
            settings: What is fixed of the fit.
            hyper: Whether hyperparameters are drawn from their posterior ("sample"), plugged in at their most probable
                values ("plug-in"), or drawn where there are at most `SAMPLED` data and where the field's standard
                deviation depends on them by more than `UNSETTLED` ("auto").
            seed: Of the draws of the hyperparameters.

        Raises:
            InfieldError: If the data cannot be fitted; see `fit`.
        """
        data = point_data(measurement, trend, covariates)
        found = fit(data.channels, data.geometry, noise_known=data.noise_known, settings=settings)
        plain = cls(data, measurement.grid, measurement.units, found, (State.of(found),))
        if hyper == "plug-in":
            return plain
        number = min(max(STATE_TARGETS // measurement.grid.size, FEWEST_STATES), MOST_STATES)
        about: dict[str, Any] = {}
        if hyper == "auto" and data.count > SAMPLED:
            moved = about["log_sd_moved_by_hyperparameters"] = plain.unsettled()
            if moved <= UNSETTLED:
                return replace(plain, about_states=about)
        about["hyperparameter_draws"] = number
        if hyper == "auto" and data.count > CHAINED:
            chain = about_the_mode(found, data.channels, noise_known=data.noise_known, states=number, seed=seed)
            about["hyperparameters_by"] = "Laplace's approximation"
        else:
            chain = sample(found, data.channels, data.geometry, noise_known=data.noise_known, states=number, seed=seed)
            about["hyperparameter_effective_draws"] = chain.effective
            about["orders"] = {f"{nu:g}": share for nu, share in chain.orders.items()}
        drawn = zip(chain.laws, chain.noise_factors, chain.coefficients, strict=True)
        found = replace(found, warnings=(*found.warnings, *chain.warnings))
        return cls(data, measurement.grid, measurement.units, found, tuple(State(*one) for one in drawn), about)

    @property
    def most_probable(self) -> State:
        """The hyperparameters of the fit."""
        return State.of(self.fit)

    @property
    def name(self) -> str:
        """Description of the fitted model in one line."""
        law, geometry = self.fit.law, self.data.geometry
        lengths = {f"{length:.3g} {geometry.length_units(i)}": None for i, length in enumerate(law.lengths)}
        turned = "" if law.azimuth is None else ", turned axes"
        parts = [
            f"Matern {2 * law.nu:g}/2",
            f"sd {law.variance**0.5:.3g} {self.units}",
            f"length {' x '.join(lengths)}{turned}",
        ]
        if not self.data.noise_known:
            parts.append(f"noise sd {self.noise_sd:.3g} {self.units}")
        fields = ", ".join(covariate.name for covariate in self.data.trend.covariates)
        with_fields = f" with {fields}" if fields else ""
        return f"Gaussian fitted to the data, {', '.join(parts)}, {self.data.trend.kind} trend{with_fields}"

    @property
    def noise_sd(self) -> float:
        """Standard deviation of the noise, root mean square over the data."""
        noise = torch.cat([data.noise for data in self.data.channels])
        return float(noise_variances(noise, self.fit.noise_factor).mean().sqrt())

    @property
    def noise_sds(self) -> list[float]:
        """Of each instrument, where they have levels of their own; empty else."""
        factor, channels = self.fit.noise_factor, self.data.channels
        if not isinstance(factor, Tensor) or factor.ndim == 0:
            return []
        noise = torch.cat([data.noise for data in channels])
        return [float((f * own[own > 0].mean()).sqrt()) for f, own in zip(factor, noise.mT, strict=True) if own.any()]

    @property
    def provenance(self) -> dict[str, Any]:
        """The fit in plain JSON types."""
        return {
            **self.fit.law.to_json(),
            "trend": self.data.trend.kind,
            **({"covariates": self._slopes()} if self.data.trend.covariates else {}),
            "noise_sd": self.noise_sd,
            "noise_estimated": not self.data.noise_known,
            **({"noise_sds": self.noise_sds} if self.noise_sds else {}),
            "log_errors": dict(zip(self.fit.family.names, self.fit.errors, strict=True)),
            "log_evidence": self.fit.log_evidence,
            "log_evidence_white_noise": self.fit.log_evidence_white,
            **self.about_states,
        }

    def _slopes(self) -> dict[str, dict[str, float]]:
        """Change of the field with one unit of each covariate, mean over the channels, and its error."""
        last = self.data.trend(self.data.channels[0].x[:1]).shape[1]
        found, fields = {}, self.data.trend.covariates
        for column, covariate in zip(range(last - len(fields), last), fields, strict=True):
            own = [(float(c.mean[column]), float(c.covariance[column, column])) for c in self.fit.coefficients]
            slope, variance = (sum(values) / len(own) for values in zip(*own, strict=True))
            found[covariate.name] = {"slope": slope / covariate.scale, "error": variance**0.5 / covariate.scale}
        return found

    @property
    def sha256(self) -> str:
        """Digest of the hyperparameters, rounded so that it is the same on every processor."""
        rounded = {k: f"{v:.4g}" for k, v in (("variance", self.fit.law.variance), ("noise", self.noise_sd))}
        lengths = [f"{length:.4g}" for length in self.fit.law.lengths]
        return hashlib.sha256(json.dumps([self.fit.law.nu, rounded, lengths]).encode()).hexdigest()

    def measured(self, channel: int, state: State) -> Observations:
        """Data of a channel around the fit's centre, with the noise of a state."""
        return state.measured(self.data.channels[channel], self.fit.centre)

    def moments_at(self, targets: Tensor, channel: int, *, most: int = MOST_STATES) -> tuple[Moments, Tensor]:
        """Mean and variance of the field at positions `(m, ndim)`, hyperparameters averaged over.

        Returns:
            Moments in units of the field; and the part of the variance that stems from the hyperparameters, `(m,)`.
        """
        states = self.states[:: max(len(self.states) // most, 1)][:most]
        design = self.data.design_at(targets, channel)
        parts = [moments(s.law, self.measured(channel, s), targets, design, s.coefficients[channel]) for s in states]
        means = torch.stack([part.mean for part in parts])
        mean, between = means.mean(0), means.var(0, correction=0)
        variance = torch.stack([part.variance for part in parts]).mean(0) + between
        worst = max(parts, key=lambda part: part.change)
        return Moments(mean + self.fit.centre, variance, worst.neighbours, worst.change, worst.change_std), between

    def draw(self, n: int, generator: Randomness) -> Tensor:
        """Joint draws of the field on the grid; draw i of a run under state i of the hyperparameters.

        Returns:
            Shape `(n, channel, *space)`, in units of the field.
        """
        return self._joint.draw(n, generator) + self.fit.centre

    def unsettled(self) -> float:
        """How much the field's standard deviation depends on hyperparameters; see `laplace.unsettled`."""
        some, around = some_targets(self.grid), []
        for data in self.data.channels:
            around.append(Observations(data.x, data.y - self.fit.centre, data.noise, data.design, data.prior_sd))
        designs = [self.data.design_at(some, c) for c in range(len(self.data.channels))]
        return unsettled(self.fit, around, some, designs)

    def chi_square(self, most: int = 4000) -> float:
        """Expected reduced chi-square of the data at their own positions under the posterior."""
        total, count = 0.0, 0
        for c, data in enumerate(self.data.channels):
            own = evenly(len(data), most)
            found, _ = self.moments_at(data.x[own], c, most=4)
            noise = noise_variances(data.noise, self.fit.noise_factor)[own]
            total += float((((data.y[own] - found.mean) ** 2 + found.variance) / noise).sum())
            count += len(own)
        return total / count

    def as_prior(self) -> GaussianPrior:
        """The fitted law as a Gaussian prior on the grid, for any sampler; trend and noise at their most probable.

        Raises:
            InfieldError: If the law's axes are turned, or no domain of ours has it.
        """
        law, geometry = self.fit.law, self.data.geometry
        if law.azimuth is not None or (geometry.sphere and geometry.ndim > 2):
            raise InfieldError(
                where="the law fitted to the data",
                found="axes that are turned" if law.azimuth is not None else "a sphere and further axes",
                expected="a law along the axes",
                remedy="leave out {sampler}, or fit along the axes ({isotropic})",
                parameters=["sampler", "isotropic"],
            )
        if geometry.sphere:
            kernel = Matern(nu=law.nu, length=law.lengths[0] / EARTH_RADIUS, variance=1.0, domain="sphere")
            domain: Grid | PointSet = self.grid
        else:
            kernel, domain = Matern(nu=law.nu, length=1.0, variance=1.0), _scaled(self.grid, law.lengths)
        channels = len(self.data.channels)
        prior = gaussian_prior(kernel, domain, channels=channels, name=self.name)
        targets = self.grid.points()
        shift = torch.stack([
            self.fit.centre + self.data.design_at(targets, c) @ own.mean for c, own in enumerate(self.fit.coefficients)
        ])  # fmt: skip
        units = replace(
            prior.standardisation,
            shift=shift.reshape(channels, *self.grid.shape),
            scale=prior.standardisation.scale * law.variance**0.5,
        )
        return replace(prior, standardisation=units, units=self.units)


def _scaled(grid: Grid | PointSet, lengths: Sequence[float]) -> Grid | PointSet:
    """A grid with coordinates in correlation lengths."""
    if isinstance(grid, PointSet):
        points = tuple(tuple(x / l for x, l in zip(point, lengths, strict=True)) for point in grid.coordinates)
        return PointSet(points, grid.names, "1", grid.dimension)
    axes = [
        Axis(a.name, tuple(x / l for x in a.coordinates), "1", a.periodic)
        for a, l in zip(grid.axes, lengths, strict=True)
    ]
    return Grid(tuple(axes))
