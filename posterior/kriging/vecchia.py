r"""Evidence of a stationary law by Vecchia's approximation: each datum given its nearest predecessors.

    log p(y) = sum_i log N(y_i | y_{N(i)}),    N(i): the m nearest data that come before i in a random order

(Vecchia 1988, J. R. Stat. Soc. B 50, 297; random orders: Guinness 2018, Technometrics 60, 415). With K the covariance
of (y_{N(i)}, y_i), noise included, and w = (-K_NN^{-1} k, 1): the conditional variance is d = w^T K w, the residual
e = w^T y. Changes of K change them by

    dd = w^T dK w,    de = -w^T dK a,    a = (K_NN^{-1} y_N, 0),

so that gradients need no derivative of a factorisation: d log p = v^T dK w with one v, and K w = (0, d). Coefficients
of the trend are integrated out under N(0, B), exactly within the approximation: y and the trend functions are whitened
by the same w.

A sum over some of the i, chosen at random, with their neighbours among all data, weighted to stand for all, is an
unbiased estimate of the whole and resolves its finest scales: fits start from that.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial import cKDTree
from torch import Tensor

from infield.posterior.kriging.law import JITTER, matern_slope, matern_unit
from infield.posterior.kriging.observations import Coefficients, Observations, noise_variances

NEIGHBOURS = 30
"""m, the number of neighbours."""

BATCH_ENTRIES = 200_000
"""Entries of the covariance matrices that are held at a time: as many as a core's cache holds."""

KEPT_PLACES = 70_000
"""Data and neighbours of all terms up to which what a gradient needs twice is kept (about 600 bytes each)."""


@dataclass(frozen=True)
class Terms:
    """Some terms of the sum: data and their neighbours; the last column is the datum itself.

    Arguments:
        index: Shape `(terms, m + 1)`; where a datum has fewer predecessors, its own index fills their places.
        missing: Bool, likewise: places without a neighbour.
    """

    index: Tensor
    missing: Tensor


def neighbour_terms(z: Tensor, chosen: Tensor, m: int = NEIGHBOURS) -> Terms:
    """Nearest predecessors of some data.

    Arguments:
        z: Embedded positions in their order, shape `(n, D)`.
        chosen: Places in this order, shape `(terms,)`.
        m: Number of neighbours.
    """
    points, places = z.numpy(), chosen.numpy()
    found = np.full((len(places), m), -1, dtype=np.int64)
    start = 0
    while start < len(points):
        stop = min(max(2 * start, 4 * m), len(points))
        mine = np.flatnonzero((places >= start) & (places < stop))
        if len(mine):
            found[mine] = _predecessors(points[:stop], places[mine], m)
        start = stop
    missing = torch.from_numpy(found < 0)
    index = torch.where(missing, chosen[:, None], torch.from_numpy(found))
    return Terms(
        torch.cat([index, chosen[:, None]], 1), torch.cat([missing, torch.zeros(len(places), 1, dtype=torch.bool)], 1)
    )


def _predecessors(points: np.ndarray, places: np.ndarray, m: int) -> np.ndarray:
    """The m nearest of points[:i] for each place i, -1 where there are fewer; places lie in the points' later half."""
    tree = cKDTree(points)
    found = np.full((len(places), m), -1, dtype=np.int64)
    todo, k = np.arange(len(places)), min(3 * m + 1, len(points))
    while len(todo):
        _, near = tree.query(points[places[todo]], k=k)
        near = near.reshape(len(todo), -1)
        before = near < places[todo][:, None]
        rank = np.cumsum(before, axis=1)
        enough = (rank[:, -1] >= m) | (k == len(points))
        for row in np.flatnonzero(enough):
            those = near[row][before[row]][:m]
            found[todo[row], : len(those)] = those
        todo, k = todo[~enough], min(2 * k, len(points))
    return found


@dataclass(frozen=True)
class Whitened:
    """What the evidence is made of: sums over terms of whitened data and trend functions, and of log d."""

    squares: Tensor
    cross: Tensor
    gram: Tensor
    log_d: Tensor
    count: float

    def coefficients(self, prior_variance: Tensor) -> Coefficients:
        """Posterior of the trend's coefficients under N(0, B), B diagonal."""
        precision = self.gram + torch.diag(1 / prior_variance)
        covariance = torch.linalg.inv(precision)
        return Coefficients(covariance @ self.cross, (covariance + covariance.mT) / 2)

    def log_evidence(self, prior_variance: Tensor) -> Tensor:
        """log p(y), coefficients integrated out."""
        precision = self.gram + torch.diag(1 / prior_variance)
        beta = torch.linalg.solve(precision, self.cross)
        determinants = self.log_d + torch.logdet(precision) + prior_variance.log().sum()
        quadratic = self.squares - self.cross @ beta
        return -0.5 * (quadratic + determinants + self.count * math.log(2 * math.pi))


Kernel = Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]
"""Of positions `(n, ndim)`: embedded positions `(n, D)`, the variance, and the factor on the noise (one, or one a
column); differentiable."""


Values = tuple[Tensor, Tensor, Tensor]
"""What a kernel returns."""


def with_derivatives(
    kernel: Callable[[Tensor, Tensor], Values], theta: Tensor, x: Tensor
) -> tuple[Tensor, Values, Values]:
    """A leaf with the value of theta, what the kernel makes of it, and the same without derivatives."""
    leaf = theta.detach().requires_grad_()
    with torch.enable_grad():
        z, variance, factor = kernel(leaf, x)
    return leaf, (z, variance, factor), (z.detach(), variance.detach(), factor.detach())


def chained(leaf: Tensor, values: tuple[Tensor, ...], derivatives: tuple[Tensor, ...]) -> Tensor:
    """Derivatives with respect to a leaf, given those with respect to values that were computed from it."""
    with torch.enable_grad():
        total = torch.stack([(v * d).sum() for v, d in zip(values, derivatives, strict=True)]).sum()
        (gradient,) = torch.autograd.grad(total, leaf)
    return gradient


@dataclass(frozen=True)
class Vecchia:
    """The evidence of data in a random order.

    Arguments:
        data: In their order.
        terms: Which terms of the sum, and their neighbours.
        prior_variance: Diagonal of B, shape `(trend functions,)`.
        nu: Order of the law.
        weight: Of each term, so that some stand for all.
    """

    data: Observations
    terms: Terms
    prior_variance: Tensor
    nu: float
    weight: float = 1.0

    def __len__(self) -> int:
        return len(self.terms.index)

    def batches(self) -> list[Terms]:
        few = max(BATCH_ENTRIES // self.terms.index.shape[1] ** 2, 1)
        return [Terms(*pair) for pair in zip(self.terms.index.split(few), self.terms.missing.split(few), strict=True)]

    def whitened(self, kernel: Kernel) -> Whitened:
        """The sums, without gradients."""
        with torch.no_grad():
            parts = (self._conditionals(self._covariance(*kernel(self.data.x), b)[2], b)[:2] for b in self.batches())
            return self._sums(parts)

    def _sums(self, parts: Iterable[tuple[Tensor, Tensor]]) -> Whitened:
        """From residuals e and variances d of batches."""
        p = self.data.design.shape[1]
        gram, log_d = self.data.y.new_zeros((p + 1, p + 1)), self.data.y.new_zeros(())
        for e, d in parts:
            u = e / d.sqrt()[:, None]
            gram += u.mT @ u
            log_d += d.log().sum()
        w = self.weight
        return Whitened(w * gram[0, 0], w * gram[1:, 0], w * gram[1:, 1:], w * log_d, w * len(self))

    def value_and_gradient(
        self, kernel: Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]], theta: Tensor
    ) -> tuple[float, Tensor]:
        """log p(y) and its derivatives with respect to theta; `kernel(theta, positions)` as `Kernel`."""
        leaf, values, fixed = with_derivatives(kernel, theta, self.data.x)
        batches = self.batches()

        def pieces(batch: Terms) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor, Tensor, Tensor]]:
            near, distance, K = self._covariance(*fixed, batch)
            return near, distance, self._conditionals(K, batch)

        kept = [pieces(batch) for batch in batches] if self.terms.index.numel() <= KEPT_PLACES else None
        each = (piece[2][:2] for piece in kept or map(pieces, batches))
        whitened = self._sums(each)
        posterior = whitened.coefficients(self.prior_variance)
        of_z, of_variance, of_factor = (torch.zeros_like(value) for value in fixed)
        variances = noise_variances(self.data.noise, fixed[2])
        for batch, (near, distance, conditionals) in zip(batches, kept or map(pieces, batches), strict=True):
            v = self._sensitivity(*conditionals, posterior)
            w = conditionals[2]
            if bool(batch.missing.any()):
                v, w = (torch.where(batch.missing, 0.0, part) for part in (v, w))
            own, noise = v * w, self.data.noise[batch.index]
            of_factor += (own * noise).sum() if noise.ndim == 2 else torch.einsum("nm,nml->l", own, noise)
            of_noise = (own * variances[batch.index]).sum()
            of_variance += ((v[:, -1] * conditionals[1]).sum() - of_noise) / fixed[1]
            both = torch.stack([v, w], 2)
            sums = matern_slope(distance, self.nu) @ torch.cat(
                [both, (both[..., None] * near[:, :, None]).flatten(2)], 2
            )
            across = both.flip(2)  # of H, H_ij = (v_i w_j + w_i v_j) slope_ij: what multiplies the sums over j
            of_rows = (across * sums[:, :, :2]).sum(2, keepdim=True) * near
            of_places = (across[..., None] * sums[:, :, 2:].unflatten(2, (2, -1))).sum(2)
            back = 2 * fixed[1] * (of_rows - of_places)
            of_z.index_add_(0, batch.index.flatten(), back.flatten(0, 1))
        gradient = chained(leaf, values, (of_z, of_variance, of_factor))
        return float(whitened.log_evidence(self.prior_variance)), self.weight * gradient

    @staticmethod
    def _sensitivity(e: Tensor, d: Tensor, w: Tensor, a: Tensor, posterior: Coefficients) -> Tensor:
        """v with d log p = v^T dK w for each term, at the mode of the coefficients (envelope theorem)."""
        r = e[:, 0] - e[:, 1:] @ posterior.mean
        spread = torch.einsum("np,pq,nq->n", e[:, 1:], posterior.covariance, e[:, 1:])
        of_d = -0.5 * (1 - (r.square() + spread) / d) / d
        of_e = a[:, :, 0] - a[:, :, 1:] @ posterior.mean
        of_e = r[:, None] * of_e + torch.einsum("nmp,pq,nq->nm", a[:, :, 1:], posterior.covariance, e[:, 1:])
        return of_d[:, None] * w + of_e / d[:, None]

    def _covariance(self, z: Tensor, variance: Tensor, factor: Tensor, batch: Terms) -> tuple[Tensor, Tensor, Tensor]:
        """Embedded positions of each term's data, their distances, and their covariance with noise."""
        near = z[batch.index]
        distance = torch.cdist(near, near, compute_mode="donot_use_mm_for_euclid_dist")
        K = variance * matern_unit(distance, self.nu)
        own = noise_variances(self.data.noise, factor)[batch.index] + JITTER * variance
        if bool(batch.missing.any()):
            apart = batch.missing[:, :, None] | batch.missing[:, None, :]
            K = torch.where(apart, 0.0, K)
            own = torch.where(batch.missing, 1.0, own)
        K.diagonal(dim1=1, dim2=2).add_(own)
        return near, distance, K

    def _conditionals(self, K: Tensor, batch: Terms) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Residuals e of data and trend `(n, 1 + p)`, variances d, weights w `(n, m + 1)`, a `(n, m + 1, 1 + p)`."""
        values = torch.cat([self.data.y[:, None], self.data.design], 1)[batch.index]
        values = torch.where(batch.missing[:, :, None], torch.zeros((), dtype=K.dtype), values)
        m = K.shape[1] - 1
        L = torch.linalg.cholesky(K[:, :m, :m])
        right = torch.cat([K[:, :m, m:], values[:, :m]], 2)
        solved = torch.cholesky_solve(right, L)
        w = torch.cat([-solved[:, :, 0], K.new_ones(len(K), 1)], 1)
        d = K[:, m, m] - torch.einsum("nm,nm->n", K[:, :m, m], solved[:, :, 0])
        e = torch.einsum("nm,nmp->np", w, values)
        a = torch.cat([solved[:, :, 1:], K.new_zeros(len(K), 1, values.shape[2])], 1)
        return e, d, w, a
