"""One slice of Cartesian k-space, whatever file it came from, and what is made of it: images, targets, white noise.

Conventions: k-space is centred (frequency zero at index n // 2, for odd n as for even) and the transform orthonormal,
y_c = fftshift(fft2(ifftshift(s_c x), norm="ortho")), as in sigpy, BART with -u, fastMRI and deepinv.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from infield.core.errors import InfieldError

_AXES = (-2, -1)


@dataclass(frozen=True, kw_only=True)
class KSpace:
    """A slice of k-space; every reader ends here.

    Arguments:
        samples: `(coil, ky, kx)`, complex128, 0 where nothing was measured.
        mask: Which samples were measured, bool `(ky, kx)`.
        readout: The axis along which whole lines were read (0 ky, 1 kx); along the other one lines can be left out.
        calibration: Lines that were measured for the coil maps, as `samples`, 0 elsewhere; None where the data are to
            serve.
        noise_covariance: Psi = E[n n^H] of the samples' noise, `(coil, coil)`; None where it is not known.
        coil_maps: Sensitivities that came with the data, `(coil, y, x)`; None where none did.
        target: Magnitude image that came with the data, of any size; None where none did.
        voxel: Size of a point of the image along y and x, mm; None where it is not known.
        rounded: Share of the source's samples that were rounding errors of zeros, as of interpolated data.
        history: Where the slice is from and what was done to it, one line a step.
        warnings: Of that, what a person has to hear.

    Raises:
        InfieldError: Coils or sizes do not match.
    """

    samples: np.ndarray
    mask: np.ndarray
    readout: int = 1
    calibration: np.ndarray | None = None
    noise_covariance: np.ndarray | None = None
    coil_maps: np.ndarray | None = None
    target: np.ndarray | None = None
    voxel: tuple[float, float] | None = None
    rounded: float = 0.0
    history: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        coils = len(self.samples)
        _expect("mask", self.mask, self.samples.shape[1:], "the samples (ky, kx)")
        _expect("calibration lines", self.calibration, self.samples.shape, "the samples (coil, ky, kx)")
        _expect("coil maps", self.coil_maps, self.samples.shape, "the k-space (coil, y, x)")
        _expect("noise covariance", self.noise_covariance, (coils, coils), "the coils of the k-space")

    @property
    def complete(self) -> bool:
        """Whether all was measured that the scan reaches: one block of lines without a gap."""
        rows, columns = self.mask.any(1), self.mask.any(0)
        whole = bool(np.array_equal(self.mask, np.logical_and.outer(rows, columns)))
        return whole and all(np.ptp(np.flatnonzero(line)) + 1 == line.sum() for line in (rows, columns))

    def whitened(self) -> KSpace:
        """The same slice in coordinates in which the noise of the coils is independent and of variance 1.

        With Psi = L L^H, samples, calibration lines and maps are multiplied by L^{-1} from the left, over the coils.

        Raises:
            InfieldError: The covariance is not known, or not positive definite.
        """
        if self.noise_covariance is None:
            raise InfieldError(where="whitening", found="no noise covariance", expected="one")
        root = cholesky(self.noise_covariance)

        def white(values: np.ndarray | None) -> np.ndarray | None:
            return (
                None if values is None else np.linalg.solve(root, values.reshape(len(root), -1)).reshape(values.shape)
            )

        samples = white(self.samples)
        assert samples is not None
        return dataclasses.replace(
            self,
            samples=samples,
            calibration=white(self.calibration),
            coil_maps=white(self.coil_maps),
            noise_covariance=np.eye(len(root), dtype=complex),
            history=(*self.history, "coils combined so that their noise is white (pre-whitening)"),
        )

    def cropped(self, shape: tuple[int, int]) -> KSpace:
        """The same slice with its middle samples alone: fewer, larger points in the same field of view.

        The transform is orthonormal, so that the image's values change by the root of the ratio of the two counts.

        Arguments:
            shape: Samples `(ky, kx)` to keep, at most those that there are.

        Raises:
            InfieldError: The slice has coil maps, which are not resampled.
        """
        if self.coil_maps is not None:
            raise InfieldError(found="coil maps of the full resolution", expected="none where it is lowered")
        sizes = self.mask.shape
        middle = tuple(slice(n // 2 - m // 2, n // 2 - m // 2 + m) for n, m in zip(sizes, shape, strict=True))
        gain = float(np.sqrt(np.prod(shape) / np.prod(sizes)))
        voxel = self.voxel and tuple(mm * n / m for mm, n, m in zip(self.voxel, sizes, shape, strict=True))
        return dataclasses.replace(
            self,
            samples=self.samples[:, *middle],
            mask=self.mask[middle],
            calibration=None if self.calibration is None else self.calibration[:, *middle],
            target=None if self.target is None else self.target * gain,
            voxel=voxel,
            history=(
                *self.history,
                f"resolution lowered from {sizes[0]} x {sizes[1]} to {shape[0]} x {shape[1]} points",
            ),
        )


def _expect(name: str, values: np.ndarray | None, shape: tuple[int, ...], of: str) -> None:
    if values is not None and values.shape != shape:
        raise InfieldError(
            found=f"{name} of shape {values.shape}", expected=f"{shape} as {of}", remedy="coils or sizes do not match"
        )


def cholesky(covariance: np.ndarray) -> np.ndarray:
    """L, lower triangular, with L L^H = `covariance` `(coil, coil)`.

    Raises:
        InfieldError: It is not Hermitian and positive definite.
    """
    try:
        if not np.allclose(covariance, covariance.conj().T, rtol=1e-6, atol=1e-9 * np.abs(covariance).max()):
            raise np.linalg.LinAlgError("not Hermitian")
        return np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError as error:
        raise InfieldError(
            found=f"a noise covariance that is no covariance ({error})",
            expected="a Hermitian positive definite matrix",
            remedy="are two coils the same, or is one empty?",
        ) from error


def fourier(image: np.ndarray) -> np.ndarray:
    """Centred orthonormal transform over the last two axes."""
    return np.fft.fftshift(np.fft.fft2(np.fft.ifftshift(image, _AXES), axes=_AXES, norm="ortho"), _AXES)


def inverse_fourier(kspace: np.ndarray) -> np.ndarray:
    """The inverse of `fourier`, and its adjoint."""
    return np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(kspace, _AXES), axes=_AXES, norm="ortho"), _AXES)


def remove_oversampling(kspace: np.ndarray, axis: int, size: int) -> np.ndarray:
    """Crop the image along a fully sampled axis: the middle `size` points, their centre kept at index n // 2.

    In k-space that is a Dirichlet interpolation to a wider spacing; white noise stays white, with the same variance.

    Arguments:
        kspace: `(..., ky, kx)`.
        axis: -2 or -1.
        size: Points to keep.
    """
    n = kspace.shape[axis]
    image = np.fft.fftshift(np.fft.ifft(np.fft.ifftshift(kspace, axis), axis=axis, norm="ortho"), axis)
    start = n // 2 - size // 2
    image = np.take(image, np.arange(start, start + size), axis)
    return np.fft.fftshift(np.fft.fft(np.fft.ifftshift(image, axis), axis=axis, norm="ortho"), axis)


def root_sum_of_squares(images: np.ndarray) -> np.ndarray:
    """RSS, fastMRI's multi-coil target: sqrt(sum_c |x_c|^2) of coil images `(coil, y, x)`."""
    return np.sqrt(np.sum(np.abs(images) ** 2, axis=0))


def minimum_variance_unbiased(images: np.ndarray, maps: np.ndarray, psi: np.ndarray | None = None) -> np.ndarray:
    r"""MVUE of an image from its coil images: (s^H Psi^{-1} s)^{-1} s^H Psi^{-1} x at every point.

    With white noise and normalised maps that is sum_c conj(s_c) x_c, the target of InverseBench (Jalal et al. 2021,
    arXiv:2108.01368, Section 4).

    Arguments:
        images: Coil images of fully sampled data, `(coil, y, x)`.
        maps: Sensitivities, likewise.
        psi: Covariance of the coils' noise, `(coil, coil)`; None for white noise.

    Returns:
        Complex image `(y, x)`, 0 where all maps are.
    """
    weights = maps if psi is None else np.tensordot(np.linalg.inv(psi), maps, 1)
    power = np.sum(weights.conj() * maps, axis=0).real
    combined = np.sum(weights.conj() * images, axis=0)
    return np.where(power > 0, combined / np.where(power > 0, power, 1), 0)
