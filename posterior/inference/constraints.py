r"""Fields that keep a known integral: conditioning on linear constraints G u = b.

Hansen, Maddix, Alizadeh, Gupta & Mahoney 2023, "Learning Physical Models that Can Respect Conservation Laws"
(arXiv 2302.11002, eq. 8) update a predictive law N(mu, Sigma) by a constraint G u = b + N(0, sigma_G^2 1),

    mu~ = mu - Sigma G^T (sigma_G^2 + G Sigma G^T)^{-1} (G mu - b),
    Sigma~ = Sigma - Sigma G^T (sigma_G^2 + G Sigma G^T)^{-1} G Sigma.

The same map moves draws: u~ = u - Sigma G^T (sigma_G^2 + G Sigma G^T)^{-1} (G u + eps - b), eps ~ N(0, sigma_G^2 1),
has the law N(mu~, Sigma~) (Matheron's rule), and for sigma_G = 0 keeps the integral to rounding. Sigma must be the
covariance of u given everything else that is known, data included: conditioning on data with K and then on the
constraint with Sigma = K - K A^T (A K A^T + R)^{-1} A K (`PosteriorCovariance`) is conditioning on both at once. With K
in place of Sigma the data are damaged; with 1 (the nearest field that keeps the integral) the law is wrong wherever the
field is not equally uncertain everywhere.

| paper | here |
| --- | --- |
| G | `weights` |
| b | `value` |
| sigma_G^2 | `variance` |
| Sigma | `covariance`, anything with `apply` |
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from infield.core.errors import InfieldError
from infield.core.grid import Axis, Grid, PointSet
from infield.core.randomness import Randomness, SampleStreams, normal
from infield.physics.measurement import Measurement
from infield.posterior.inference.linear_gaussian import LinearGaussianData
from infield.posterior.samplers.accepts import FLOW, Accepts
from infield.posterior.samplers.base import Draws, Posterior, Sampler
from infield.priors.base import FlowPrior, Standardisation
from infield.priors.covariance.base import Covariance

DRAWS_A_CONSTRAINT = 20
"""Fewest draws for each constraint where their covariance is estimated from the draws themselves."""


class Product(Protocol):
    """A covariance that can be applied, as `priors.covariance.base.Covariance` can."""

    def apply(self, x: Tensor) -> Tensor:
        """Sigma x for fields of shape `(batch, channel, *space)`."""
        ...


@dataclass(frozen=True, eq=False)
class LinearConstraints:
    """Linear constraints G u = b on a field.

    Arguments:
        weights: G, shape `(constraints, channel, *space)`.
        value: b, shape `(constraints,)`.
        variance: sigma_G^2 >= 0, in squared units of b; 0 keeps b exactly.

    Raises:
        InfieldError: If the shapes differ, or a number is not finite or has no meaning.
    """

    weights: Tensor
    value: Tensor
    variance: float = 0.0

    def __post_init__(self) -> None:
        if self.weights.ndim < 3 or self.value.shape != self.weights.shape[:1]:
            raise InfieldError(
                where="conservation",
                found=f"weights of shape {tuple(self.weights.shape)} and values of shape {tuple(self.value.shape)}",
                expected="(constraints, channel, *space) and (constraints,)",
            )
        if not (self.weights.isfinite().all() and self.value.isfinite().all() and 0 <= self.variance < float("inf")):
            raise InfieldError(where="conservation", found="NaN, Inf or a negative variance", expected="finite numbers")
        if (self.weights.flatten(1) == 0).all(dim=1).any():
            raise InfieldError(
                where="conservation", found="a constraint whose weights are all zero", remedy="leave it out"
            )

    @classmethod
    def integral(
        cls,
        grid: Grid,
        value: float | Tensor,
        *,
        over: Sequence[str] | None = None,
        channels: int = 1,
        channel: int = 0,
        variance: float = 0.0,
    ) -> LinearConstraints:
        """The integral of a channel over some axes, one constraint for each point of the others.

        Arguments:
            grid: Domain of the field.
            value: The integral, in units of the field times those of the axes: a number, or shape of the other axes.
            over: Names of the axes; None takes all.
            channels: Channels of the field.
            channel: The one that is integrated.
            variance: sigma_G^2.
        """
        weights = integral_weights(grid, over).to(torch.float64)  # (constraints, *space)
        G = weights.new_zeros((len(weights), channels, *grid.shape))
        G[:, channel] = weights
        b = torch.as_tensor(value, dtype=torch.float64).flatten()
        if b.numel() not in (1, len(G)):
            raise InfieldError(where="conservation", found=f"{b.numel()} integrals", expected=f"1 or {len(G)}")
        return cls(G, b.expand(len(G)).clone(), variance)

    def standardised(self, units: Standardisation, event_shape: tuple[int, ...]) -> LinearConstraints:
        """The same constraints on standardised fields of a shape, of which fields in units are an affine function."""
        origin, transpose = torch.func.vjp(units.to_units, self.weights.new_zeros((1, *event_shape)))[:2]
        if origin.shape[1:] != self.weights.shape[1:]:
            raise InfieldError(
                where="conservation",
                found=f"weights for fields of shape {tuple(self.weights.shape[1:])}",
                expected=tuple(origin.shape[1:]),
            )
        G = torch.cat([transpose(row[None])[0] for row in self.weights])
        return replace(self, weights=G, value=-self.error(origin)[0])

    def error(self, u: Tensor) -> Tensor:
        """G u - b, shape `(batch, constraints)`."""
        return u.flatten(1) @ self.weights.flatten(1).mT - self.value

    def project(self, u: Tensor, covariance: Product) -> Tensor:
        """u - Sigma G^T (sigma_G^2 + G Sigma G^T)^{-1} (G u - b): the update of a mean, and of draws if sigma_G = 0.

        Arguments:
            u: Shape `(batch, channel, *space)`.
            covariance: Sigma, that of u before the constraint.
        """
        return self._moved(u, self.error(u), covariance.apply(self.weights))

    def condition(self, u: Tensor, covariance: Product, generator: Randomness) -> Tensor:
        """Turn draws of N(mu, Sigma) into draws of N(mu~, Sigma~); shape of u."""
        error = self.error(u)
        if self.variance > 0:
            error = error + self.variance**0.5 * normal(generator, len(u), error.shape[1:], u.device)
        return self._moved(u, error, covariance.apply(self.weights))

    def _moved(self, u: Tensor, error: Tensor, sigma_G: Tensor) -> Tensor:
        """u - Sigma G^T (sigma_G^2 + G Sigma G^T)^{-1} error, with Sigma G^T of shape `(constraints, *event)`."""
        S = self.weights.flatten(1) @ sigma_G.flatten(1).mT
        S = (S + S.mT) / 2 + self.variance * torch.eye(len(S)).to(S)
        L, info = torch.linalg.cholesky_ex(S)
        if info.item() or bool((L.diagonal() < 1e-7 * S.diagonal().sqrt()).any()):
            raise InfieldError(
                where="conservation",
                found=f"{len(S)} constraints that depend on one another, or one that the data and the prior determine",
                expected="independent constraints",
                remedy="remove some, or give them a variance",
            )
        back = torch.cholesky_solve(error.mT, L).mT @ sigma_G.flatten(1)
        return u - back.reshape(u.shape)


@dataclass(frozen=True)
class PosteriorCovariance:
    """Sigma = K - K A^T (A K A^T + R)^{-1} A K: what linear-Gaussian data leave of a covariance K.

    Arguments:
        data: The data.
        covariance: K.
    """

    data: LinearGaussianData
    covariance: Covariance

    def apply(self, x: Tensor) -> Tensor:
        """Sigma x, shape `(batch, channel, *space)`."""
        Kx = self.covariance.apply(x)
        return Kx - self.data.correction(
            self.data.mask_unobserved(self.data.measurement.operator.A(Kx)), self.covariance
        )


@dataclass(frozen=True)
class SampleCovariance:
    """The covariance of draws, applied without being formed.

    Arguments:
        draws: Shape `(n, channel, *space)`.
    """

    draws: Tensor

    def apply(self, x: Tensor) -> Tensor:
        centred = (self.draws - self.draws.mean(0)).flatten(1)
        return ((x.flatten(1) @ centred.mT) @ centred / (len(centred) - 1)).reshape(x.shape)


@dataclass(frozen=True, kw_only=True)
class ConstrainedSampler(Sampler):
    """Any sampler, and its draws conditioned on constraints afterwards.

    With linear data and Gaussian noise, Sigma is what the data leave of the prior's covariance: the law is the
    conditional one exactly if the prior is Gaussian, whatever the number of draws. Otherwise Sigma is the covariance of
    the draws themselves: the conditional law of the Gaussian with their moments, off by the error of that estimate,
    which moves the mean by 1 / sqrt(n) standard deviations for every one by which the constraint surprises. For
    posteriors that are not Gaussian both are a linear adjustment (Beaumont, Zhang & Balding 2002), not the conditional
    law: components are moved, not weighed again.

    Arguments:
        sampler: Makes the draws.
        conservation: Constraints on the field in its units.
    """

    sampler: Sampler
    conservation: LinearConstraints

    method: ClassVar[str] = "conserving"

    @property
    def accepts(self) -> Accepts:  # type: ignore[override]
        """What the sampler inside requires, of a flow prior."""
        return replace(self.sampler.accepts, after=FLOW)

    @property
    def result(self) -> type[Posterior]:  # type: ignore[override]
        return self.sampler.result

    @property
    def caveat(self) -> str | None:  # type: ignore[override]
        return self.sampler.caveat

    def draw(self, prior: FlowPrior, measurement: Measurement, n: int, generator: Randomness) -> Draws:
        constraints = self.conservation.standardised(prior.standardisation, prior.source.event_shape)
        draws = self.sampler.draw(prior, measurement, n, generator)
        u, covariance = draws.fields, self._covariance(prior, measurement, draws.fields, generator)
        fields = constraints.condition(u, covariance, generator)
        moved = {"conservation_before": constraints.error(u), "conservation_after": constraints.error(fields)}
        errors = {name: float(error.square().mean().sqrt()) for name, error in moved.items()}
        return replace(draws, fields=fields, diagnostics={**draws.diagnostics, **errors})

    def _covariance(self, prior: FlowPrior, measurement: Measurement, u: Tensor, generator: Randomness) -> Product:
        if measurement.linear_gaussian:
            return PosteriorCovariance(LinearGaussianData(measurement, prior.covariance.modes), prior.covariance)
        least = DRAWS_A_CONSTRAINT * len(self.conservation.value)
        if isinstance(generator, SampleStreams) or len(u) < least:
            raise InfieldError(
                where="conservation: for this operator or noise it needs the covariance of the draws",
                found=f"{len(u)} draws",
                expected=f"at least {least}, from one generator",
            )
        return SampleCovariance(u)


def integral_weights(grid: Grid | PointSet, over: Sequence[str] | None = None) -> Tensor:
    """Quadrature weights of the integral over some axes: trapezoids, and equal weights where an axis is periodic.

    Arguments:
        grid: A regular grid; its axes need not be uniform.
        over: Names of the axes; None takes all.

    Returns:
        Shape `(points of the other axes, *space)`, in units of the axes; row i is zero but at point i of the others.

    Raises:
        InfieldError: If the field is given on scattered points, or the grid has no axis of a name.
    """
    if not isinstance(grid, Grid):
        raise InfieldError(
            where="conservation",
            found="scattered points, which have no quadrature weights",
            expected="a grid",
            remedy="give `LinearConstraints` its weights",
        )
    names = grid.names if over is None else tuple(over)
    if not names or not set(names) <= set(grid.names):
        raise InfieldError(where="conservation", found=f"the axes {names}", expected=f"some of {grid.names}")
    rows = torch.ones((1, 1), dtype=torch.float64)  # (points of the others, points) of the axes so far
    for axis in grid.axes:
        unit = _axis_weights(axis)[None] if axis.name in names else torch.eye(axis.size, dtype=torch.float64)
        rows = torch.kron(rows, unit)
    return rows.reshape(-1, *grid.shape)


def _axis_weights(axis: Axis) -> Tensor:
    if axis.periodic or axis.size == 1:
        return torch.full((axis.size,), axis.spacing, dtype=torch.float64)
    steps = torch.tensor(axis.coordinates, dtype=torch.float64).diff() / 2
    zero = steps.new_zeros(1)
    return torch.cat([zero, steps]) + torch.cat([steps, zero])
