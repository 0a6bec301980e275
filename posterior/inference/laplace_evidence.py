r"""The evidence of data that are not linear in the field, or not Gaussian, by Laplace's method.

Under u ~ N(m, K) and data of any law of independent data, with the most probable field u* (Rasmussen & Williams 2006,
eq. 3.32; here with the Jacobian J of an operator),

    log p(y) ~ log p(y | u*) - (u* - m)^T K^{-1} (u* - m) / 2 - log det(1 + B) / 2,    B = D J K J^T D,

D^2 = W the Fisher information of each datum about its noiseless value: for counts behind an exponential, W J^2 is the
curvature of -log p itself. With u = m + K a, Newton's step is (ibid., algorithm 3.1)

    a' = J^T D (1 + B)^{-1} D (J (u - m) + W^{-1} g) = J^T (g + D (1 + B)^{-1} D J (K a - K J^T g)),

with g = d log p(y | z) / dz, so that no inverse of K is needed, only its products. The log-determinant of few data is
computed; of many it is estimated by stochastic Lanczos quadrature (Ubaru, Chen & Saad 2017, SIAM J. Matrix Anal. Appl.
38, 1075) from the same probes every time: as a function of the parameters of K it is smooth.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Generator, Tensor

from infield.core.errors import InfieldError
from infield.physics.measurement import Measurement
from infield.physics.operators.jacobian import jacobian_is_exact, jacobian_product
from infield.physics.operators.refusal import ForwardModelError
from infield.posterior.inference.conjugate_gradients import NotConverged, conjugate_gradients
from infield.posterior.inference.likelihood import fisher_information, slope

MAX_DATA_EXACT, MAX_ENTRIES_EXACT = 1500, 8_000_000
"""Data up to which the log-determinant is computed, and their number times that of the field's values."""

PROBES, LANCZOS = 8, 25
"""Random signs from which the log-determinant of more data is estimated, and Lanczos steps from each."""

TOGETHER = 64
"""Vectors of the data whose products with B are computed at a time."""

MAX_NEWTON_STEPS, MAX_HALVINGS, DECREMENT = 60, 30, 1e-3
"""Newton steps, halvings of one, and the gain of log p(u | y) to come below which the search ends."""

SOLVED, ITERATIONS = 1e-3, 3000
"""Residual of a Newton step's conjugate gradients, root mean square a datum, and their number."""

SHARE_TRIED, FEWEST_TRIED = 8, 50
"""Where B can be computed, conjugate gradients are given up after this share of the number of data, at least so many
iterations: B itself costs one product a datum, and those in batches."""

Product = Callable[[Tensor], Tensor]
"""x -> K x on fields `(batch, channel, *space)`."""


@dataclass(frozen=True)
class LaplaceEvidence:
    """The MAP field, and Laplace's approximation of the evidence.

    Arguments:
        measurement: The data.
        mean: m, shape `(1, channel, *space)`.
        product: K.
        dual: a, with u* = m + K a, shape of `mean`.
        at: u*, likewise.
        value: log p(y | u*) - (u* - m)^T K^{-1} (u* - m) / 2.
    """

    measurement: Measurement
    mean: Tensor
    product: Product
    dual: Tensor
    at: Tensor
    value: float

    @cached_property
    def log_det(self) -> float:
        """log det(1 + B)."""
        local = LocalData.at(self.measurement, self.at, self.product)
        index = local.index
        if local.few:
            return float(torch.linalg.slogdet(local.matrix).logabsdet)
        signs = torch.randint(0, 2, (PROBES, len(index)), generator=Generator().manual_seed(0), dtype=torch.int8)
        return float(lanczos_log_det(local.B, (2 * signs - 1).to(self.at)).mean())

    @property
    def log_evidence(self) -> float:
        """log p(y), with its constants."""
        return self.value - self.log_det / 2


@dataclass(frozen=True)
class LocalData:
    """The data around one field: D and J there, acting on vectors of the observed data, shape `(batch, data)`.

    Arguments:
        measurement: The data.
        u: The field, shape `(1, channel, *space)`.
        z: A u, shape `(1, *data)`.
        product: K.
        deviation: D, shape `(data,)`.
        index: Places of the observed data among all.
    """

    measurement: Measurement
    u: Tensor
    z: Tensor
    product: Product
    deviation: Tensor
    index: Tensor

    @classmethod
    def at(cls, measurement: Measurement, u: Tensor, product: Product) -> LocalData:
        z = measurement.operator.A(u)
        W = fisher_information(measurement, z)[0].flatten()
        seen = measurement.observed
        index = torch.arange(len(W), device=W.device) if seen is None else seen.flatten().nonzero()[:, 0]
        return cls(measurement, u, z, product, W[index].sqrt(), index)

    @property
    def few(self) -> bool:
        """Whether the data are so few that D J and 1 + B may be computed."""
        return len(self.index) <= MAX_DATA_EXACT and len(self.index) * self.u.numel() <= MAX_ENTRIES_EXACT

    @cached_property
    def rows(self) -> Tensor | None:
        """D J, shape `(data, field)`, of few data of an operator whose products with J are differences: their error,
        times the condition number of 1 + B, would be all that is left. None elsewhere."""
        if not self.few or jacobian_is_exact(self.measurement.operator):
            return None
        unit = torch.eye(len(self.index), dtype=self.u.dtype, device=self.u.device)
        return torch.cat([self._transposed(part).flatten(1) for part in unit.split(TOGETHER)])

    @cached_property
    def matrix(self) -> Tensor:
        """1 + B of few data, shape `(data, data)`."""
        unit = torch.eye(len(self.index), dtype=torch.float64, device=self.index.device)
        B = torch.cat([self.B(part) for part in unit.split(TOGETHER)])
        return unit + (B + B.mT) / 2

    def pull(self, v: Tensor) -> Tensor:
        """J^T D v, shape `(batch, channel, *space)`."""
        if self.rows is not None:
            return (v @ self.rows).reshape(-1, *self.u.shape[1:])
        return self._transposed(v)

    def push(self, x: Tensor) -> Tensor:
        """D J x, shape `(batch, data)`."""
        if self.rows is not None:
            return x.flatten(1) @ self.rows.mT
        return self.deviation * jacobian_product(self.measurement.operator, self.u, x).flatten(1)[:, self.index]

    def _transposed(self, v: Tensor) -> Tensor:
        on_data = v.new_zeros((len(v), self.z[0].numel()))
        on_data[:, self.index] = self.deviation * v
        on_data = on_data.reshape(-1, *self.z.shape[1:])
        return self.measurement.operator.A_vjp(self.u.expand(len(v), *self.u.shape[1:]), on_data)

    def B(self, v: Tensor) -> Tensor:
        return self.push(self.product(self.pull(v)))

    def newton(self, Ka: Tensor, g: Tensor) -> Tensor:
        """a' for the field u = m + K a, and g on the data.

        The system is solved for what is left of a first guess of its solution: D^{-1} g, which it is where u is the
        most probable field already, or zero, where that leaves less. Far from accurate data (1 + B) D^{-1} g is so
        large that its rounding exceeds the solution.
        """
        a = self.measurement.operator.A_vjp(self.u, g)
        from_guess = self.push(Ka - self.product(a))
        white = g.flatten(1)[:, self.index] / self.deviation
        from_zero = self.push(Ka) + white
        if bool(torch.isfinite(white).all()) and float(from_zero.norm()) < float(from_guess.norm()):
            return self.pull(self.solve(from_zero))
        return a + self.pull(self.solve(from_guess))

    def solve(self, right: Tensor) -> Tensor:
        """(1 + B)^{-1} of vectors of the data, to `SOLVED` of a posterior standard deviation.

        Few data that are far more accurate than the prior, where B has a condition number that conjugate gradients do
        not master, are solved by the matrix.
        """
        if self.rows is None:
            one = torch.ones_like(self.deviation)
            iterations = max(FEWEST_TRIED, len(self.index) // SHARE_TRIED) if self.few else ITERATIONS
            try:
                return conjugate_gradients(lambda v: v + self.B(v), right, SOLVED, iterations, diagonal=one)
            except NotConverged:
                if not self.few:
                    raise
        return torch.linalg.solve(self.matrix, right.mT).mT


def laplace_evidence(
    measurement: Measurement, mean: Tensor, product: Product, start: Tensor | None = None
) -> LaplaceEvidence:
    """Search the most probable field under N(mean, K), by Newton's method with a line search.

    Arguments:
        measurement: Any operator with a derivative; a noise model of independent data.
        mean: m, of finite likelihood, shape `(1, channel, *space)`.
        product: K.
        start: a of a similar K, from where the search starts; the mean by default.

    Raises:
        InfieldError: If the data are impossible under the mean, or the search does not end.
    """

    def evaluate(a: Tensor, Ka: Tensor) -> float:
        try:
            value = measurement.log_likelihood(mean + Ka) - 0.5 * (a * Ka).sum()
        except ForwardModelError:  # a step too far, to a field for which there is no solution
            return -math.inf
        return float(torch.where(value.isnan(), -torch.inf, value))

    a = torch.zeros_like(mean)
    Ka = torch.zeros_like(mean)
    value = evaluate(a, Ka)
    if start is not None:
        there = product(start)
        if (reached := evaluate(start, there)) > value:
            a, Ka, value = start, there, reached
    if not math.isfinite(value):
        raise InfieldError(where="Laplace's method", found="data that are impossible under the mean field")
    for _ in range(MAX_NEWTON_STEPS):
        u = mean + Ka
        local = LocalData.at(measurement, u, product)
        step = local.newton(Ka, slope(measurement, local.z)) - a
        K_step = product(step)
        eta = 1.0
        for _ in range(MAX_HALVINGS):
            trial, K_trial = a + eta * step, Ka + eta * K_step
            reached = evaluate(trial, K_trial)
            if reached > value:
                break
            eta /= 2
        else:
            return LaplaceEvidence(measurement, mean, product, a, u, value)
        gain, (a, Ka, value) = reached - value, (trial, K_trial, reached)
        if gain < DECREMENT:
            return LaplaceEvidence(measurement, mean, product, a, mean + Ka, value)
    raise InfieldError(where="Laplace's method", found=f"no most probable field after {MAX_NEWTON_STEPS} Newton steps")


def lanczos_log_det(B: Callable[[Tensor], Tensor], probes: Tensor, steps: int = LANCZOS) -> Tensor:
    """Estimates of log det(1 + B) by Gauss quadrature, one a probe, shape `(probes,)`.

    Arguments:
        B: v -> B v, symmetric and positive semidefinite, on vectors `(batch, n)`.
        probes: Random signs, shape `(probes, n)`.
        steps: Lanczos steps, with full orthogonalisation.
    """
    n, steps = probes.shape[1], min(steps, probes.shape[1])
    norm = probes.norm(dim=1, keepdim=True)
    Q = probes.new_zeros((len(probes), steps, n))
    Q[:, 0] = probes / norm
    alpha, beta = [], []
    for j in range(steps):
        v = B(Q[:, j])
        alpha.append((v * Q[:, j]).sum(1))
        for _ in range(2):  # once more: the first pass leaves rounding
            v = v - (Q[:, : j + 1].mT @ (Q[:, : j + 1] @ v[:, :, None]))[:, :, 0]
        length = v.norm(dim=1)
        if j + 1 == steps or bool((length <= 1e-10 * torch.stack(alpha).abs().amax(0)).all()):
            break
        beta.append(length)
        Q[:, j + 1] = v / length.clamp_min(1e-300)[:, None]
    T = torch.diag_embed(torch.stack(alpha, dim=1))
    if beta:
        off = torch.stack(beta, dim=1)
        T = T + torch.diag_embed(off, offset=1) + torch.diag_embed(off, offset=-1)
    ritz, vectors = torch.linalg.eigh(T)
    return norm[:, 0] ** 2 * (vectors[:, 0] ** 2 * torch.log1p(ritz.clamp_min(0))).sum(1)
