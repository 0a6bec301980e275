"""What was measured where, and the trend around which the field varies."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from infield.core.errors import InfieldError
from infield.posterior.kriging.covariates import Covariate
from infield.posterior.kriging.law import Geometry


@dataclass(frozen=True)
class Observations:
    """Data of one channel at their own positions.

    Arguments:
        x: Positions, shape `(n, ndim)`, in the units of the geometry.
        y: Values, shape `(n,)`, in units of the field.
        noise: Variances of their errors, shape `(n,)`, in squared units of the field. While several levels are to be
            estimated, shape `(n, levels + 1)`: what each level contributes to a datum, and a last column of known ones.
        design: Trend functions at the positions, shape `(n, terms)`; no terms for a field around zero. Factors of noise
            that data share, such as an offset of an instrument, are further terms, zero away from the data.
        prior_sd: Standard deviations of the terms' coefficients, shape `(terms,)`, infinite for those of a trend, which
            get a wide one; None where all are.
    """

    x: Tensor
    y: Tensor
    noise: Tensor
    design: Tensor
    prior_sd: Tensor | None = None

    def __len__(self) -> int:
        return len(self.y)

    def at(self, index: Tensor) -> Observations:
        """Some of the data."""
        return Observations(self.x[index], self.y[index], self.noise[index], self.design[index], self.prior_sd)

    def terms_sd(self, wide: float) -> Tensor:
        """Prior standard deviations of the terms' coefficients, with a number for infinity, shape `(terms,)`."""
        of_trend = self.y.new_full((self.design.shape[1],), wide)
        return of_trend if self.prior_sd is None else torch.where(self.prior_sd.isinf(), of_trend, self.prior_sd)


def noise_variances(noise: Tensor, factor: Tensor | float) -> Tensor:
    """Variances `(n,)` of errors whose levels are multiplied by a factor: one, or one for each column of `noise`."""
    return factor * noise if noise.ndim == 1 else noise @ torch.as_tensor(factor, dtype=noise.dtype)


def evenly(n: int, most: int) -> Tensor:
    """At most so many of n places, evenly spread from the first to the last."""
    return torch.linspace(0, n - 1, min(n, most), dtype=torch.float64).round().long()


@dataclass(frozen=True)
class Trend:
    """Functions of position, scaled to be of order 1 over the data: a constant, and the coordinates where linear.

    On the sphere and along periodic axes a linear trend has no meaning; there only the constant is used.

    Arguments:
        kind: `none`, `constant` or `linear`.
        geometry: Of the domain.
        centre: Of the data, shape `(ndim,)`.
        scale: Half-width of the data along each coordinate, shape `(ndim,)`.
        covariates: Further functions of position.
    """

    kind: str
    geometry: Geometry
    centre: Tensor
    scale: Tensor
    covariates: tuple[Covariate, ...] = ()

    @classmethod
    def of(cls, kind: str, geometry: Geometry, x: Tensor, covariates: tuple[Covariate, ...] = ()) -> Trend:
        """For data at positions x."""
        low, high = x.amin(0), x.amax(0)
        half = (high - low) / 2
        return cls(kind, geometry, (low + high) / 2, torch.where(half > 0, half, torch.ones_like(half)), covariates)

    def __call__(self, x: Tensor) -> Tensor:
        """The functions at positions x, shape `(n, terms)`."""
        columns = [] if self.kind == "none" else [x.new_ones(len(x))]
        if self.kind == "linear":
            columns += [(x[:, i] - self.centre[i]) / self.scale[i] for i in self.geometry.planar]
        columns += [covariate(x) for covariate in self.covariates]
        return torch.stack(columns, 1) if columns else x.new_zeros((len(x), 0))


@dataclass(frozen=True)
class Coefficients:
    """Posterior N(mean, covariance) of the coefficients of a trend.

    Arguments:
        mean: Shape `(terms,)`, in units of the field.
        covariance: Shape `(terms, terms)`.
    """

    mean: Tensor
    covariance: Tensor

    def scaled(self, scale: float) -> Coefficients:
        """Of data that are larger by this factor."""
        return Coefficients(scale * self.mean, scale**2 * self.covariance)


def location(channels: Sequence[Observations]) -> tuple[float, float]:
    """Median of the data, and their standard deviation around the least-squares trend."""
    y = torch.cat([data.y for data in channels])
    centre = float(y.median())
    rest = []
    for data in channels:
        F, r = data.design, data.y - centre
        rest.append(r - F @ torch.linalg.lstsq(F, r[:, None], driver="gelsd").solution[:, 0] if F.shape[1] else r)
    scale = float(torch.cat(rest).square().mean().sqrt())
    if not scale > 1e-12 * max(float(y.abs().max()), 1e-300):
        raise InfieldError(
            where="fit of a prior to the data",
            found="data that are all equal, or lie on the trend",
            expected="data that vary",
            remedy="name a prior with {prior}",
            parameters=["prior"],
        )
    return centre, scale
