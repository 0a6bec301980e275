"""Moments that a simulator of kriging implies, beside those of dense kriging in numpy."""

import numpy as np
import torch

SHIFT = 1e-3
"""Added to standard deviations before dividing, in units of the field's: at data without noise both are zero."""


def dense(law, data, targets):
    """Matrix of the posterior mean, and posterior covariance, in numpy."""
    d = np.asarray(law.embed(torch.cat([data.x, targets])))
    z = np.sqrt(2 * law.nu) * np.sqrt(np.maximum(((d[:, None] - d[None]) ** 2).sum(-1), 0))
    k = law.variance * {0.5: 1.0, 1.5: 1 + z, 2.5: 1 + z + z**2 / 3}[law.nu] * np.exp(-z)
    N = len(data)
    mean = np.linalg.solve(k[:N, :N] + np.diag(data.noise.numpy() + 1e-10 * law.variance), k[:N, N:]).T
    return mean, k[N:, N:] - mean @ k[:N, N:]


def implied(simulator, N):
    """The same of a simulator: unit vectors pushed through its draws."""
    m = simulator.numbers
    mean = simulator.draw(torch.eye(N), torch.zeros(N, m, dtype=torch.float64)).numpy().T
    root = simulator.draw(torch.zeros(m, N), torch.eye(m, dtype=torch.float64)).numpy().T
    return mean, root @ root.T


def errors(simulator, law, data, targets):
    """Largest errors of standard deviations (relative) and correlations, and of the mean in standard deviations."""
    (A, C), (B, D) = implied(simulator, len(data)), dense(law, data, targets)
    sd, exact = (np.sqrt(np.maximum(np.diag(c), 0)) + SHIFT for c in (C, D))
    K = np.asarray(law.between(law.embed(data.x), law.embed(data.x))) + np.diag(data.noise.numpy())
    shift = np.sqrt(np.maximum(np.einsum("ij,jk,ik->i", A - B, K, A - B), 0)) / exact
    return np.abs(sd / exact - 1).max(), np.abs(C / np.outer(sd, sd) - D / np.outer(exact, exact)).max(), shift.max()
