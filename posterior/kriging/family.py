"""Families of stationary laws and their hyperparameters, with the hyperpriors that a fit states."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from infield.posterior.kriging.law import EARTH_RADIUS, Geometry, StationaryLaw, matern_unit
from infield.posterior.kriging.observations import Observations, evenly

Shape = Literal["isotropic", "axes", "turned"]
"""One length for coordinates that can share one; a length a coordinate; two lengths along turned axes as well."""

LOG_VARIANCE = (0.0, 2.0)
"""Mean and standard deviation of log(v / variance of the data around their trend), where v is what the law expects of
that variance: sigma^2 where the data spread over many lengths, less where a trend takes up what varies slowly."""

SHOWN = 64
"""Data from which a law's expectation of their variance is computed."""

LEAST_SHOWN = 1e-4
"""Share of sigma^2 that v is taken to have at least."""

LOG_LENGTH = (math.log(0.25), 1.5)
"""Of log(length / extent of the data)."""

LOG_NOISE = (math.log(0.1), 2.0)
"""Of log(variance of the noise / variance of the data around their trend), if the data's file leaves it open."""

TREND_SD = 10.0
"""Standard deviation of coefficients of the trend, in standard deviations of the data around it."""


def extents(geometry: Geometry, x: Tensor) -> Tensor:
    """Extent of data along each coordinate, in units of lengths; of a periodic one half the period, shape `(ndim,)`."""
    spans = x.amax(0) - x.amin(0)
    spans = torch.tensor(
        [period / 2 if period else float(s) for s, period in zip(spans, geometry.periods, strict=True)]
    )
    spans = spans.to(x)
    if geometry.sphere:
        unit = geometry.embed(x, torch.full_like(spans, EARTH_RADIUS))[:, -3:]
        mean = unit.mean(0)
        spread = 2 * math.sqrt(2) * float((unit - mean).square().sum(1).mean().sqrt())
        spans[list(geometry.sphere)] = max(spread, 1e-6) * EARTH_RADIUS
    return torch.where(spans > 0, spans, torch.ones_like(spans))


def shown_by(data: Observations) -> tuple[Tensor, Tensor]:
    """Some positions, and what takes the trend out of values there; see `Family`."""
    some = data.at(evenly(len(data), SHOWN))
    of_trend = slice(None) if some.prior_sd is None else some.prior_sd.isinf()
    Q, _ = torch.linalg.qr(some.design[:, of_trend])
    return some.x, (torch.eye(len(some), dtype=Q.dtype) - Q @ Q.mT) / len(some)


@dataclass(frozen=True)
class Family:
    """Hyperparameters theta = (log variance, log lengths, azimuth, log noise), in units of the standardised data.

    Arguments:
        geometry: Of the domain.
        nu: Order of the law.
        shape: Which lengths are free.
        extents: Of the data, `extents`.
        noise: How many levels of the noise are hyperparameters.
        several: Whether noise has columns: a level each, and one of known variances, whose factor is 1.
        azimuth: Angle of turned axes in radians; None where it is a hyperparameter.
        places: Positions of some of the data, shape `(m, ndim)`, and
        residual: P / m for them, where P takes the trend out, shape `(m, m)`; None for v = sigma^2.
    """

    geometry: Geometry
    nu: float
    shape: Shape
    extents: Tensor
    noise: int
    several: bool = False
    azimuth: float | None = None
    places: Tensor | None = None
    residual: Tensor | None = None

    @property
    def sharing(self) -> tuple[tuple[int, ...], ...]:
        """Coordinates by the length that they share."""
        if self.shape == "isotropic":
            return self.geometry.groups
        sphere = self.geometry.on_sphere
        alone = tuple((i,) for i in range(self.geometry.ndim) if i not in sphere)
        return (sphere, *alone) if sphere else alone

    @property
    def turns(self) -> bool:
        """Whether an angle is among the hyperparameters."""
        return self.shape == "turned" and self.azimuth is None

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the entries of theta."""
        of_lengths = ("length " + " ".join(self.geometry.names[i] for i in group) for group in self.sharing)
        turned = ("azimuth",) if self.turns else ()
        levels = ("noise",) if not self.several else tuple(f"noise of part {k + 1}" for k in range(self.noise))
        return ("variance", *of_lengths, *turned, *(levels if self.noise else ()))

    @property
    def prior(self) -> tuple[Tensor, Tensor]:
        """Means and standard deviations of the hyperpriors, independent normals; flat over the angle.

        Both lengths of turned axes have one hyperprior: exchanging them and turning by 90 degrees changes nothing.
        """
        rows = [LOG_VARIANCE]
        turned = self.geometry.planar[:2] if self.shape == "turned" else ()
        for group in self.sharing:
            own = list(turned if group[0] in turned else group)
            rows.append((LOG_LENGTH[0] + math.log(float(self.extents[own].max())), LOG_LENGTH[1]))
        if self.turns:
            rows.append((0.0, math.inf))
        rows += [LOG_NOISE] * self.noise
        table = torch.tensor(rows, dtype=torch.float64)
        return table[:, 0], table[:, 1]

    def log_prior(self, theta: Tensor) -> Tensor:
        """Log density of the hyperpriors, a differentiable scalar; the angle's is 2 / pi, of a quarter turn."""
        mean, sd = self.prior
        if self.places is not None and self.residual is not None:
            z, _, _ = self.kernel(theta, self.places)
            distance = torch.cdist(z, z, compute_mode="donot_use_mm_for_euclid_dist")
            shown = (self.residual * matern_unit(distance, self.nu)).sum().clamp_min(LEAST_SHOWN)
            theta = torch.cat([(theta[0] + shown.log())[None], theta[1:]])
        flat = torch.isinf(sd)
        z = torch.where(flat, torch.zeros_like(theta), (theta - mean) / torch.where(flat, torch.ones_like(sd), sd))
        constant = (sd[~flat].log() + 0.5 * math.log(2 * math.pi)).sum() + flat.sum() * math.log(math.pi / 2)
        return -0.5 * z.square().sum() - constant

    def unpack(self, theta: Tensor) -> tuple[Tensor, Tensor, Tensor | None, Tensor]:
        """Variance, lengths `(ndim,)`, azimuth, and the factor on the noise: one, or `(levels + 1,)` of several."""
        sharing = self.sharing
        of = {i: theta[1 + j] for j, group in enumerate(sharing) for i in group}
        lengths = torch.stack([of[i] for i in range(self.geometry.ndim)]).exp()
        azimuth = theta[1 + len(sharing)] if self.turns else None
        if self.shape == "turned" and self.azimuth is not None:
            azimuth = torch.full_like(theta[0], self.azimuth)
        one = torch.ones_like(theta[0])
        if self.several:
            factor = torch.cat([theta[len(theta) - self.noise :].exp(), one[None]])
        else:
            factor = theta[-1].exp() if self.noise else one
        return theta[0].exp(), lengths, azimuth, factor

    def packed(self, variance: Tensor, lengths: Tensor, azimuth: Tensor | None, factor: Tensor) -> Tensor:
        """The inverse of `unpack`; lengths that are shared are averaged."""
        entries = [variance.log(), *(lengths[list(group)].log().mean() for group in self.sharing)]
        if self.turns:
            entries.append(torch.zeros_like(variance) if azimuth is None else azimuth)
        entries += list(factor.reshape(-1)[: self.noise].log())
        return torch.stack(entries)

    def kernel(self, theta: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Embedded positions, variance, factor on the noise; as `vecchia.Kernel`."""
        variance, lengths, azimuth, factor = self.unpack(theta)
        return self.geometry.embed(x, lengths, azimuth), variance, factor

    def law(self, theta: Tensor, scale: float) -> StationaryLaw:
        """The law in units of the field; scale is the standard deviation that stands for 1 in theta."""
        variance, lengths, azimuth, _ = self.unpack(theta)
        half_turn = None if azimuth is None else (float(azimuth) + math.pi / 2) % math.pi - math.pi / 2
        return StationaryLaw(self.geometry, self.nu, float(variance) * scale**2, tuple(lengths.tolist()), half_turn)
