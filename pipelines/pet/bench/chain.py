"""The reference: long Metropolis chains with a dense Gauss-Newton preconditioner, for small images.

In z with u = u_map + L z, L L^T the inverse of K^-1 + J^T W J at the most probable field, the posterior is near
N(0, I); proposals z' = rho z + (1 - rho) (z + grad log pi(z)) + sqrt(1 - rho^2) xi are Langevin steps that keep N(0, I)
(Cotter et al. 2013) and are accepted by Metropolis' rule. Everything is a dense matrix: this shares no code with the
samplers.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
import scipy.sparse

from infield.pipelines.pet.bench.cases import LENGTH, SD, Case, image_grid

CHAINS, STEPS, RHO = 24, 300, 0.6


def matern_covariance(side: int) -> np.ndarray:
    """Matern 3/2 of the pixels, shape `(N, N)`."""
    points = image_grid(side).points().numpy()
    distance = np.sqrt(((points[:, None] - points) ** 2).sum(-1)) * np.sqrt(3) / LENGTH
    return SD**2 * (1 + distance) * np.exp(-distance)


def dense_matrix(case: Case) -> np.ndarray:
    """Exposure times the projector, shape `(data, N)`."""
    A, (rows, pixels) = case.emission, (case.counts.numel(), case.rate.numel())
    matrix = scipy.sparse.csr_matrix((A.forward_values, A.forward_columns, A.forward_rows), shape=(rows, pixels))
    assert A.weight is not None
    return A.weight.flatten().numpy()[:, None] * matrix.toarray()


def reference(case: Case, seed: int = 0, *, chains: int = CHAINS, steps: int = STEPS) -> np.ndarray:
    """One draw of the log rate from each chain, shape `(chains, N)`."""
    rng = np.random.default_rng(seed)
    A, y, b = dense_matrix(case), case.counts.numpy().ravel(), case.background.numpy().ravel()
    precision = np.linalg.inv(matern_covariance(len(case.rate)))

    def log_posterior(u: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Of fields in rows, with its gradient."""
        rate = np.exp(u)
        mean, pulled = rate @ A.T + b, u @ precision
        value = (y * np.log(mean) - mean).sum(1) - 0.5 * (u * pulled).sum(1)
        return value, rate * ((y / mean - 1) @ A) - pulled

    u = np.zeros((1, A.shape[1]))
    for _ in range(30):
        value, gradient = log_posterior(u)
        step = scipy.linalg.solve(_metric(A, b, u[0], precision), gradient[0], assume_a="pos")
        length = 1.0
        while length > 1e-6 and log_posterior(u + length * step)[0][0] < value[0]:
            length /= 2
        u = u + length * step
        if np.abs(length * step).max() < 1e-4:
            break
    upper = scipy.linalg.cholesky(_metric(A, b, u[0], precision))

    def at(z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """log pi(z), and the drift z + grad log pi(z)."""
        value, gradient = log_posterior(u + scipy.linalg.solve_triangular(upper, z.T).T)
        return value, z + scipy.linalg.solve_triangular(upper, gradient.T, trans="T").T

    z, sigma = rng.standard_normal((chains, A.shape[1])), np.sqrt(1 - RHO**2)
    value, drift = at(z)
    for _ in range(steps):
        mean = RHO * z + (1 - RHO) * drift
        z_new = mean + sigma * rng.standard_normal(z.shape)
        value_new, drift_new = at(z_new)
        back = RHO * z_new + (1 - RHO) * drift_new
        ratio = value_new - value - 0.5 * (((z - back) ** 2).sum(1) - ((z_new - mean) ** 2).sum(1)) / sigma**2
        accept = np.log(rng.random(chains)) < ratio
        z[accept], value[accept], drift[accept] = z_new[accept], value_new[accept], drift_new[accept]
    return u + scipy.linalg.solve_triangular(upper, z.T).T


def _metric(A: np.ndarray, b: np.ndarray, u: np.ndarray, precision: np.ndarray) -> np.ndarray:
    J = A * np.exp(u)
    return precision + (J / (A @ np.exp(u) + b)[:, None]).T @ J
