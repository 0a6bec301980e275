"""The noise of an MRI acquisition, estimated from its own k-space samples."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from scipy.special import gammaincinv

from infield.core.errors import InfieldError

OUTER_FRACTION = 0.1
LEAST_LINES, LEAST_PLACES = 8, 3
"""Whole lines, and quiet places along them, from which the noise can be estimated."""
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


def background_samples(kspace: np.ndarray, sampled: np.ndarray, axis: int) -> np.ndarray | None:
    """Samples of the image's empty margin: where lines are whole along an axis, their transform along it shows one.

    The orthonormal transform keeps the noise white and its covariance as it is. Of the places along the axis the
    quietest are taken, those whose power is within what chance explains of the lowest.

    Arguments:
        kspace: Centred k-space `(coil, ky, kx)`, complex.
        sampled: Which positions were measured, `(ky, kx)`, bool.
        axis: 0 along ky, 1 along kx.

    Returns:
        `(coil, samples)`, complex; None where no line is whole, or fewer than `LEAST_PLACES` places are quiet.
    """
    whole = sampled.all(axis)
    if whole.sum() < LEAST_LINES:
        return None
    lines = kspace[:, :, whole] if axis == 0 else kspace[:, whole]
    lines = np.fft.fftshift(np.fft.ifft(np.fft.ifftshift(lines, 1 + axis), axis=1 + axis, norm="ortho"), 1 + axis)
    lines = np.moveaxis(lines, 1 + axis, 1)  # (coil, place, line)
    weight = np.sqrt(np.median(np.mean(np.abs(lines) ** 2, axis=2), axis=1))
    power = np.median(np.abs(lines / np.where(weight > 0, weight, 1)[:, None, None]) ** 2, axis=2).mean(0)
    lowest = float(np.sort(power)[: max(len(power) // 20, LEAST_PLACES)].mean())
    chance = 1.44 / np.sqrt(lines.shape[2] * len(lines))  # relative sd of the median of exponential powers
    quiet = power <= lowest * (1 + 4 * chance)
    return lines[:, quiet].reshape(len(lines), -1) if quiet.sum() >= LEAST_PLACES else None


def estimated_covariance(
    kspace: np.ndarray, sampled: np.ndarray, others: np.ndarray | None = None
) -> tuple[np.ndarray, str]:
    """Psi from the samples that hold the least signal, and a description of these.

    Signal adds to an estimate and never takes away: of the estimates from the outermost samples and from the empty
    margins of the image along either axis, that of the lowest power counts.

    Arguments:
        kspace: Centred k-space `(coil, ky, kx)`, complex.
        sampled: Which positions were measured, `(ky, kx)`, bool.
        others: Samples beyond them to take for the outermost, `(coil, samples)`.

    Raises:
        InfieldError: There are too few samples for that many coils, or the coils are not independent.
    """
    found = [(coil_covariance(outer_samples(kspace, sampled) if others is None else others), "the outermost samples")]
    for axis, name in enumerate(("ky", "kx")):
        samples = background_samples(kspace, sampled, axis)
        if samples is not None and samples.shape[1] >= 4 * len(samples):
            found.append((coil_covariance(samples), f"the image's empty margin along {name}"))
    return min(found, key=lambda one: np.linalg.slogdet(one[0])[1])


def given_covariance(coils: int, noise: float | None, noise_from: str | Path | None) -> np.ndarray | None:
    """Psi `(coil, coil)` as a person gives it; None where none is given.

    Arguments:
        coils: Number of coils.
        noise: Standard deviation of each part of each coil.
        noise_from: A .npy file of noise `(coil, ...)`, complex, or of Psi `(coil, coil)`.

    Raises:
        InfieldError: Both are given, the number is not above 0, or the file is not of these coils.
    """
    if noise is not None and noise_from is not None:
        raise InfieldError(
            where="{noise}", found="{noise_from} too", expected="one of them", parameters=["noise", "noise_from"]
        )
    if noise is not None:
        if not 0 < noise < np.inf:
            raise InfieldError(where="{noise}", found=noise, expected="a number above 0", parameters=["noise"])
        return 2 * noise**2 * np.eye(coils, dtype=complex)
    if noise_from is None:
        return None
    try:
        samples = np.load(noise_from, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        reason = " ".join(str(error).split())
        raise InfieldError(where=noise_from, found=f"no readable .npy file ({reason})", expected="noise") from error
    if samples.ndim < 2 or len(samples) != coils or samples.dtype.kind not in "cf" or not np.isfinite(samples).all():
        raise InfieldError(
            where=noise_from,
            found=f"{samples.dtype} of shape {samples.shape}",
            expected=f"finite noise ({coils} coils, samples), complex, or its covariance ({coils}, {coils})",
        )
    hermitian = samples.shape == (coils, coils) and np.allclose(samples, samples.conj().T, rtol=1e-5, atol=0)
    return samples.astype(complex) if hermitian else coil_covariance(samples.reshape(coils, -1).astype(complex))


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
        InfieldError: There are too few samples for that many coils, or coils are copies of one another.
    """
    coils, count = samples.shape
    if count < 4 * coils:
        raise InfieldError(
            where=f"noise of {coils} coils", found=f"{count} outer k-space samples", expected=f"at least {4 * coils}"
        )
    psi = samples @ samples.conj().T / count
    spread = np.linalg.eigvalsh(psi)
    if not spread[0] > 1e-13 * spread[-1]:
        raise InfieldError(
            found=f"noise of {coils} coils in fewer independent ones",
            expected="coils that each have noise of their own",
            remedy="are two coils the same, or is one empty?",
        )
    bound = gammaincinv(coils, _LIGHT_TAIL)
    for _ in range(iterations):
        squared = _squared_distance(psi, samples)
        psi = (samples * np.minimum(1.0, bound / squared)) @ samples.conj().T / count
        psi = psi * np.median(_squared_distance(psi, samples)) / gammaincinv(coils, 0.5)
    return (psi + psi.conj().T) / 2


def _squared_distance(psi: np.ndarray, samples: np.ndarray) -> np.ndarray:
    return np.maximum(np.sum(samples.conj() * np.linalg.solve(psi, samples), axis=0).real, np.finfo(float).tiny)
