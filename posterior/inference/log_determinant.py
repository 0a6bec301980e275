"""The evidence of data that are too many for their matrix, with its error.

    log N(y; A m, Q) = -(r^T Q^-1 r + log |Q| + n log 2 pi) / 2,    Q = A K A^T + R,    r = y - A m,

where r^T Q^-1 r takes one run of conjugate gradients and log |Q| = log |R| + log |1 + B|, B = R^-1/2 A K A^T R^-1/2, is
estimated by stochastic Lanczos quadrature (Ubaru, Chen & Saad 2017, SIAM J. Matrix Anal. Appl. 38, 1075, algorithm 1):
for z of random signs, z^T log(1 + B) z = n sum_k tau_k^2 log theta_k, with theta_k the eigenvalues of the tridiagonal
matrix of Lanczos' iteration from z and tau_k the first entries of its eigenvectors. The signs are always the same, so
that differences between priors are more accurate than each figure.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Generator, Tensor

from infield.physics.noise.gaussian import GaussianNoise
from infield.posterior.inference.linear_gaussian import LinearGaussianData
from infield.priors.covariance.base import Covariance

PROBES, STEPS = 32, 60
MAX_DATA = 20_000
"""Above it the determinant costs more than the samples, and its error estimate is meaningless."""

TOGETHER = 8
"""Probes that are iterated together."""


def estimated_log_evidence(
    data: LinearGaussianData, mean: Tensor, covariance: Covariance
) -> tuple[float, float] | None:
    """log N(y; A m, A K A^T + R) and its standard error; None where the errors of the data are not
    independent, or for more than `MAX_DATA`.

    Arguments:
        data: Of any number.
        mean: m, shape `(channel, *space)`.
        covariance: K.
    """
    noise = data.measurement.noise
    if not isinstance(noise, GaussianNoise) or data.measurement.count > MAX_DATA:
        return None
    observed, n = data.observed, data.measurement.count
    root = noise.variance.to(torch.float64).expand(observed.shape).sqrt()

    def apply(v: Tensor) -> Tensor:  # (1 + B) v, of data alone, `(batch, n)`
        y = torch.zeros((len(v), *observed.shape), dtype=torch.float64)
        y[:, observed] = v
        z = data.measurement.operator.A(covariance.apply(data.adjoint(y / root)))
        return v + (z / root)[:, observed]

    log_det, error = log_determinant(apply, n)
    r = data.misfit(mean[None])
    quadratic = float((r * data.solve(r, covariance)).sum())
    log_R = 2 * float(root[observed].log().sum())
    return -0.5 * (quadratic + log_R + log_det + n * math.log(2 * math.pi)), error / 2


def log_determinant(
    apply: Callable[[Tensor], Tensor], n: int, *, probes: int = PROBES, steps: int = STEPS, seed: int = 0
) -> tuple[float, float]:
    """log |M| of a symmetric positive matrix and its standard error over probes.

    Arguments:
        apply: M v for vectors `(batch, n)`, float64.
        n: Size.
        probes, steps: Random vectors, and Lanczos steps of each.
        seed: Of the signs.
    """
    z = torch.randint(0, 2, (probes, n), generator=Generator().manual_seed(seed)).double() * 2 - 1
    values = torch.cat([_quadrature(apply, some, min(steps, n)) for some in z.split(TOGETHER)])
    return float(values.mean()), float(values.std()) / probes**0.5


def _quadrature(apply: Callable[[Tensor], Tensor], z: Tensor, steps: int) -> Tensor:
    """z^T log(M) z of each vector, shape `(batch,)`."""
    v = z / z.norm(dim=1, keepdim=True)
    basis, alphas, betas = [v], [], []
    for _ in range(steps):
        w = apply(basis[-1])
        alphas.append((w * basis[-1]).sum(1))
        V = torch.stack(basis, dim=1)
        for _ in range(2):  # the basis is made orthogonal anew, twice is enough
            w = w - torch.einsum("bk,bkn->bn", torch.einsum("bkn,bn->bk", V, w), V)
        beta = w.norm(dim=1)
        betas.append(beta)
        basis.append(w / beta.clamp_min(1e-300)[:, None])
        if float(beta.max()) < 1e-10 * float(alphas[0].abs().max()):
            break
    k = len(alphas)
    T = torch.zeros((len(z), k, k), dtype=torch.float64)
    i = torch.arange(k)
    T[:, i, i] = torch.stack(alphas, dim=1)
    off = torch.stack(betas, dim=1)[:, : k - 1]
    T[:, i[:-1], i[1:]] = T[:, i[1:], i[:-1]] = off
    theta, vectors = torch.linalg.eigh(T)
    return z.square().sum(1) * (vectors[:, 0].square() * theta.clamp_min(1e-300).log()).sum(1)
