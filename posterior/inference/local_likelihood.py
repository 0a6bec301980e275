r"""Quadratic models of a likelihood, one at each particle, and what they make of a Gaussian law.

Around a field a the log-likelihood is approximated by

    log L(u) = log p(y | a) + g^T (u - a) - |B (u - a)|^2 / 2,    B^T B = J^T W J,                                 (1)

g its gradient at a, J the Jacobian of the operator there, and W the information that the noise law gives (a matrix
where the law couples data). With b = g - B^T B (m - a), Q = 1 + B K B^T and s = B K b,

    Z = int N(u; m, K) L(u) du = L(m) exp((b^T K b - s^T Q^-1 s) / 2) |Q|^-1/2,                                    (2)
    N(u; m, K) L(u) / Z = N(u; m + K (b - B^T Q^-1 s), K - K B^T Q^-1 B K).                                        (3)

Few data: B is each particle's own, and so is the determinant. Many data: all particles share the B of the most probable
field, so that the determinant is the same for all; a, g and log p(y | a) are still their own. Sequential Monte Carlo is
right with either: what a model lacks is in the weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from infield.core._deepinv import LinearPhysics
from infield.core.errors import InfieldError
from infield.physics.measurement import Measurement
from infield.physics.noise.registry import GaussianNoiseModel
from infield.physics.operators.refusal import ForwardModelError
from infield.posterior.inference.laplace import find_map, linearise
from infield.posterior.inference.likelihood import fisher_information, information, only_observed, value_and_gradient
from infield.posterior.inference.whitening import Whitening
from infield.priors.base import FlowPrior
from infield.priors.covariance.base import Covariance

FEW, FEW_ENTRIES = 64, 40_000
"""Data up to which each particle has a B of its own, and entries of one."""

SHARED, SHARED_ENTRIES = 1500, 8_000_000
"""Data up to which a shared B is computed row by row, and its entries; of more it has random directions."""

NEWTON_STEPS, GAIN = 20, 1e-3
"""Steps in which the search of the most probable field ends, and the gain of its log-density below which it does."""


@dataclass(frozen=True)
class LocalLikelihood:
    """Models (1) of some particles; fields are in the modes' coordinates, flattened.

    Arguments:
        at: a, shape `(batch, modes)`.
        value: log p(y | a), shape `(batch,)`.
        gradient: g, shape of `at`.
        rows: B, shape `(batch, rows, modes)`, or `(1, rows, modes)` where it is shared.
    """

    at: Tensor
    value: Tensor
    gradient: Tensor
    rows: Tensor

    def __getitem__(self, index: Tensor) -> LocalLikelihood:
        return LocalLikelihood(self.at[index], self.value[index], self.gradient[index], _choose(self.rows, index))

    def log_value(self, u: Tensor) -> Tensor:
        """log L(u), (1), for fields u of shape `(batch, modes)`; shape `(batch,)`."""
        away = u - self.at
        return self.value + (self.gradient * away).sum(1) - 0.5 * _times(self.rows, away).square().sum(1)

    @property
    def finite(self) -> Tensor:
        """Whether a field is possible and has a model, shape `(batch,)`."""
        return torch.isfinite(self.value) & torch.isfinite(self.rows).flatten(1).all(1)


@dataclass(frozen=True)
class Spread:
    """A covariance seen through B.

    Arguments:
        K: The covariance of all particles.
        KB: K B^T, shape of B.
        factor: Lower Cholesky factor of Q, shape `(batch or 1, rows, rows)`.
    """

    K: Covariance
    KB: Tensor
    factor: Tensor

    @classmethod
    def of(cls, rows: Tensor, K: Covariance) -> Spread:
        KB = _apply(K, rows.flatten(0, 1)).reshape(rows.shape)
        Q = torch.eye(rows.shape[1], dtype=rows.dtype, device=rows.device) + rows @ KB.mT
        return cls(K, KB, torch.linalg.cholesky((Q + Q.mT) / 2))

    def __getitem__(self, index: Tensor) -> Spread:
        return Spread(self.K, _choose(self.KB, index), _choose(self.factor, index))

    def solve(self, r: Tensor) -> Tensor:
        """Q^-1 r, shape `(batch, rows)`."""
        if len(self.factor) == 1:
            return torch.cholesky_solve(r.mT, self.factor[0]).mT
        return torch.cholesky_solve(r[:, :, None], self.factor)[:, :, 0]


class Conditioned:
    """N(m, K) times models (1), equations (2) and (3).

    Arguments:
        likelihood: Of some particles.
        m: Their means in the modes' coordinates, shape `(batch, modes)`.
        spread: The covariance through their B.
    """

    def __init__(self, likelihood: LocalLikelihood, m: Tensor, spread: Spread) -> None:
        self.likelihood, self.m, self.spread = likelihood, m, spread
        rows = likelihood.rows
        self.b = likelihood.gradient - _transposed(rows, _times(rows, m - likelihood.at))
        self.Kb, self.s = _apply(spread.K, self.b), _times(spread.KB, self.b)

    @property
    def log_evidence(self) -> Tensor:
        """log Z, shape `(batch,)`."""
        gain = (self.b * self.Kb).sum(1) - (self.s * self.spread.solve(self.s)).sum(1)
        log_det = 2 * self.spread.factor.diagonal(dim1=1, dim2=2).log().sum(1)
        return self.likelihood.log_value(self.m) + 0.5 * (gain - log_det)

    @property
    def mean(self) -> Tensor:
        """Of (3), shape `(batch, modes)`."""
        return self.m + self.Kb - _transposed(self.spread.KB, self.spread.solve(self.s))

    def draw(self, deviation: Tensor, noise: Tensor) -> Tensor:
        """Draws of (3) by Matheron's rule, shape `(batch, modes)`.

        Arguments:
            deviation: Draws of N(0, K) in the modes' coordinates, shape `(batch, modes)`.
            noise: Standard normal numbers, shape `(batch, rows)`.
        """
        r = self.spread.solve(_times(self.likelihood.rows, deviation) + noise)
        return self.mean + deviation - _transposed(self.spread.KB, r)


class LocalModels:
    """Builds models (1) for one measurement.

    Arguments:
        prior: Any prior.
        measurement: Any operator with a derivative, any noise law.

    Raises:
        InfieldError: The data are impossible under the prior's mean, or a derivative at the most probable field is not
            finite.
    """

    def __init__(self, prior: FlowPrior, measurement: Measurement) -> None:
        self.measurement, self.modes, self.shape = measurement, prior.covariance.modes, prior.source.event_shape
        values, C = math.prod(self.shape), prior.covariance
        rank = min(SHARED, SHARED_ENTRIES // values + 1, values)
        few = measurement.count <= FEW and measurement.count * values <= FEW_ENTRIES
        by_rows = measurement.count <= SHARED and measurement.count * values <= SHARED_ENTRIES
        self._spread: tuple[Covariance, Spread] | None = None
        self.shared: Tensor | None = None
        found = find_map(measurement, prior.mean[None], Whitening(C), rank)
        if by_rows:
            a, m = found.at, self.coordinates(prior.mean[None])
            self.first = self.around(a)
            for _ in range(NEWTON_STEPS):
                before = self.first
                self.first, _ = self.next(before, m, Spread.of(before.rows, C))
                if float(self.first.value - before.value) < GAIN and bool(
                    (self.first.at - before.at).abs().max() < GAIN
                ):
                    break
            self.shared = None if few else self.first.rows
        else:
            _, g = value_and_gradient(measurement, found.at)
            self.shared = linearise(measurement, found.at, g, Whitening(C), rank, first=rank).rows[None]
            self.first = self.around(found.at)
        if not bool(self.first.finite.all()):
            raise InfieldError(
                where="the linearised data", found="a derivative that is not finite", expected="finite numbers"
            )

    def around(self, a: Tensor) -> LocalLikelihood:
        """The models at fields a of shape `(batch, channel, *space)`."""
        value, g = value_and_gradient(self.measurement, a)
        rows = self.own_rows(a) if self.shared is None else self.shared
        return LocalLikelihood(self.coordinates(a), value, self.coordinates(g), rows)

    def spread(self, likelihood: LocalLikelihood, K: Covariance) -> Spread:
        """The covariance through the models' B; that of a shared B is kept."""
        if self.shared is None:
            return Spread.of(likelihood.rows, K)
        if self._spread is None or self._spread[0] is not K:
            self._spread = (K, Spread.of(self.shared, K))
        return self._spread[1]

    def next(self, before: LocalLikelihood, m: Tensor, spread: Spread) -> tuple[LocalLikelihood, Spread]:
        """The models one Gauss-Newton step of -log N(u; m, K) p(y | u) further; those from before of particles where
        it leads uphill, or to where the data are impossible.

        Arguments:
            before: From where.
            m: Shape `(batch, modes)`.
            spread: K through their B.
        """
        whitening = Whitening(spread.K)
        there = self.around(self.fields(Conditioned(before, m, spread).mean))
        low, high = (
            model.value - 0.5 * whitening.whiten(self.fields(model.at - m)).square().sum(1) for model in (before, there)
        )
        better = there.finite & (high > low)
        rows = there.rows if self.shared is not None else torch.where(better[:, None, None], there.rows, before.rows)
        found = LocalLikelihood(
            torch.where(better[:, None], there.at, before.at),
            torch.where(better, there.value, before.value),
            torch.where(better[:, None], there.gradient, before.gradient),
            rows,
        )
        return found, self.spread(found, spread.K)

    def coordinates(self, x: Tensor) -> Tensor:
        """Fields in the modes' coordinates, flattened."""
        return self.modes.analyse(x).flatten(1)

    def fields(self, c: Tensor) -> Tensor:
        """The inverse."""
        return self.modes.synthesise(c.reshape(-1, *self.shape))

    def own_rows(self, a: Tensor) -> Tensor:
        """B of each field, shape `(batch, data, modes)`; NaN where the operator refuses it."""
        try:
            return self._own_rows(a)
        except ForwardModelError:
            if len(a) == 1:
                return a.new_full((1, self.measurement.count, a[0].numel()), torch.nan)
            return torch.cat([self.own_rows(one) for one in a.split(1)])

    def _own_rows(self, a: Tensor) -> Tensor:
        measurement, y, noise = self.measurement, self.measurement.y, self.measurement.noise
        seen = torch.ones_like(y[0], dtype=torch.bool) if measurement.observed is None else measurement.observed
        index = seen.flatten().nonzero()[:, 0]
        unit = y.new_zeros((len(index), y[0].numel()))
        unit[torch.arange(len(index)), index] = 1.0
        unit = unit.reshape(-1, *y.shape[1:])
        z, J = jacobians(measurement, a, unit)
        J = self.coordinates(J.flatten(0, 1)).reshape(len(a), len(index), -1)
        gaussian = isinstance(noise, GaussianNoiseModel)
        if not gaussian and not hasattr(noise, "information") and hasattr(noise, "fisher"):
            return fisher_information(measurement, z).flatten(1)[:, index].sqrt()[:, :, None] * J
        at = z[:1] if gaussian else z  # the information of Gaussian noise is the same everywhere
        W = torch.stack([information(measurement, one[None], unit).flatten(1)[:, index] for one in at])
        e, V = torch.linalg.eigh((W + W.mT) / 2)
        return V @ (e.clamp_min(0).sqrt()[:, :, None] * (V.mT @ J))  # the symmetric root has no signs


def jacobians(measurement: Measurement, a: Tensor, cotangents: Tensor) -> tuple[Tensor, Tensor]:
    """A a, and J(a)^T v of each of some v for each of some fields a.

    Arguments:
        measurement: Its operator.
        a: Shape `(batch, channel, *space)`.
        cotangents: v, shape `(cotangents, *data)`.

    Returns:
        Shapes `(batch, *data)` and `(batch, cotangents, channel, *space)`.
    """
    operator, x, pulls = measurement.operator, a.detach(), []
    if isinstance(operator, LinearPhysics):
        J = operator.A_adjoint(only_observed(measurement, cotangents))
        return operator.A(x), J.expand(len(x), *J.shape)
    with torch.enable_grad():
        x = x.clone().requires_grad_()
        z = operator.A(x)
    for v in only_observed(measurement, cotangents):
        if z.requires_grad:
            pulls.append(torch.autograd.grad(z, x, v.expand_as(z), retain_graph=True)[0])
        else:  # A hides its derivative from autograd
            pulls.append(operator.A_vjp(x.detach(), v.expand_as(z)))
    return z.detach(), torch.stack(pulls, dim=1)


def _apply(K: Covariance, c: Tensor) -> Tensor:
    """K c in the modes' coordinates, flattened."""
    return K.apply_to_modes(c.reshape(-1, *K.event_shape)).flatten(1)


def _choose(rows: Tensor, index: Tensor) -> Tensor:
    """Those of some particles; all of what is shared."""
    return rows if len(rows) == 1 else rows[index]


def _times(rows: Tensor, c: Tensor) -> Tensor:
    """B c of each particle, shape `(batch, rows)`."""
    return c @ rows[0].mT if len(rows) == 1 else torch.einsum("bkn,bn->bk", rows, c)


def _transposed(rows: Tensor, r: Tensor) -> Tensor:
    """B^T r of each particle, shape `(batch, modes)`."""
    return r @ rows[0] if len(rows) == 1 else torch.einsum("bkn,bk->bn", rows, r)
