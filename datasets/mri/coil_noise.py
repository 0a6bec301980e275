"""The noise of an MRI acquisition, estimated from its own k-space samples."""

from __future__ import annotations

import numpy as np
from scipy.special import gammaincinv

from infield.core.errors import InfieldError

OUTER_FRACTION = 0.1
_LIGHT_TAIL = 0.9  # quantile of the squared distance up to which a sample keeps its full weight


def outer_samples(kspace: np.ndarray, sampled: np.ndarray, fraction: float = OUTER_FRACTION) -> np.ndarray:
    """The samples farthest from the centre of k-space, where next to no signal is left.

    Arguments:
        kspace: Centred k-space `(coil, ky, kx)`, complex.
        sampled: Which positions were measured, `(ky, kx)`, bool.
        fraction: Share of the measured positions to take.

    Returns:
        `(coil, samples)`, complex.
    """
    axes = [(np.arange(n) - n // 2) / (n / 2) for n in sampled.shape]
    radius = np.hypot(axes[0][:, None], axes[1][None])[sampled]
    return kspace[:, sampled][:, radius >= np.quantile(radius, 1 - fraction)]


def coil_covariance(samples: np.ndarray, iterations: int = 50) -> np.ndarray:
    r"""Robust estimate of Psi = E[n n^H] from samples of circular complex Gaussian noise with a few outliers.

    Huber's M-estimator of scatter (Maronna 1976): a sample n counts with weight min(1, c / d^2), where
    d^2 = n^H Psi^{-1} n is its squared distance. The scale follows from the median distance, since d^2 of N coils is
    Gamma(N, 1) distributed under the law.

    Arguments:
        samples: `(coil, samples)`, complex.
        iterations: Fixed-point steps.

    Returns:
        Psi, `(coil, coil)`, complex Hermitian positive definite, in squared units of the samples.

    Raises:
        InfieldError: There are too few samples for that many coils.
    """
    coils, count = samples.shape
    if count < 4 * coils:
        raise InfieldError(
            where=f"noise of {coils} coils", found=f"{count} outer k-space samples", expected=f"at least {4 * coils}"
        )
    psi = samples @ samples.conj().T / count
    bound = gammaincinv(coils, _LIGHT_TAIL)
    for _ in range(iterations):
        squared = _squared_distance(psi, samples)
        psi = (samples * np.minimum(1.0, bound / squared)) @ samples.conj().T / count
        psi = psi * np.median(_squared_distance(psi, samples)) / gammaincinv(coils, 0.5)
    return (psi + psi.conj().T) / 2


def _squared_distance(psi: np.ndarray, samples: np.ndarray) -> np.ndarray:
    return np.maximum(np.sum(samples.conj() * np.linalg.solve(psi, samples), axis=0).real, np.finfo(float).tiny)
