"""Multi-coil Cartesian MRI: a slice of raw k-space, of whatever file, to a measurement.

The conventions are those of `datasets.mri.kspace`.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from infield.core.errors import ArgumentError, InfieldError
from infield.core.grid import Axis, Grid
from infield.datasets.mri.coil_maps import (
    CALIBRATION_WIDTH,
    CROP,
    calibration_width,
    centre_block,
)
from infield.datasets.mri.coil_noise import estimated_covariance, given_covariance, outer_samples
from infield.datasets.mri.converted import ConvertedMRI
from infield.datasets.mri.kspace import KSpace, inverse_fourier, minimum_variance_unbiased, root_sum_of_squares
from infield.datasets.mri.map_sources import chosen_maps, with_maps
from infield.datasets.mri.masks import Seed, sampling_mask
from infield.datasets.mri.plausible import (
    check_lines,
    check_maps,
    fit_of_maps,
    recentred,
    without_dead_coils,
)
from infield.datasets.mri.readers.common import ArrayLayout
from infield.datasets.mri.readers.open import open_kspace
from infield.physics.measurement import Measurement
from infield.physics.mri.noise import CoilGaussianNoise
from infield.physics.operators.registry import build_operator

DIVIDED = "divided by"
"""Beginning of the step that records the scale."""


@dataclass(frozen=True, kw_only=True)
class Undersampling:
    """Which samples of a complete slice an accelerated scan would have kept, see `masks.sampling_mask`.

    Arguments:
        acceleration: R.
        mask: Name of the mask.
        centre_fraction: Share of the lines in the middle that is kept; None for 0.32 / R.
        seed: Of the mask.
        lines: Axis along which lines are left out (0 ky, 1 kx); None for the one that is not the readout.
    """

    acceleration: float
    mask: str = "random"
    centre_fraction: float | None = None
    seed: Seed = 0
    lines: int | None = None


def convert_mri(
    source: str | Path,
    *,
    hold_out: float = 0.0,
    seed: int = 0,
    slice_number: int | None = None,
    coils_from: str | Path | None = None,
    undersampling: Undersampling | None = None,
    resolution: float | None = None,
    voxel: tuple[float, float] | None = None,
    layout: ArrayLayout | None = None,
    noise: float | None = None,
    noise_from: str | Path | None = None,
    crop: float = CROP,
    unchecked: bool = False,
) -> ConvertedMRI:
    """Turn a slice of raw k-space into a measurement; what the file lacks is estimated from the data.

    *Coil maps*: ESPIRiT on the largest fully sampled centred square, at most 24 wide, cropped to the support of the
    image: sum_c |s_c|^2 = 1 inside, 0 outside. On the brain slice of sigpy's tutorial the crop leaves 0.5 % of the
    calibration block's energy unexplained, without it 0.4 % remain so; held-out samples are predicted better with it
    (relative error 0.34 against 0.37 under one and the same Gaussian prior), so it stays. Maps of a file are brought
    to that normalisation.
    *Noise*: known from noise lines or given, and then the coils are combined so that it is white; otherwise the coil
    covariance Psi comes from the samples that hold the least signal, see `coil_noise.estimated_covariance`. What
    signal is left there counts as noise, so the estimate errs to the large side, by a few per cent on that slice. Of
    interpolated data it is unknown.
    *Scale*: the 99th percentile of the magnitude of the zero-filled coil combination becomes 1.

    Held-out samples enter neither the noise nor the scale, and the maps use the calibration block alone; samples that
    undersampling leaves out enter none of them. (Of a slice whose resolution is lowered, the noise comes from the
    samples beyond.)

    Arguments:
        source: The file, see `readers.open`.
        hold_out: Share of all measured positions to set aside; they are drawn outside the calibration block.
        seed: Seed of that draw.
        slice_number: Which slice; may be left out where there is one.
        coils_from: "espirit", "file" (maps in the source), "uniform" (one coil that is 1 everywhere), or a file of
            maps; by default the source's own where it has some, uniform for one coil, ESPIRiT otherwise.
        undersampling: What to leave out of a complete slice.
        resolution: Size of a point, mm, to which the image is coarsened, by leaving the outer samples out; None to
            leave it as it is.
        voxel: Size of a point along y and x, mm, if the file lacks it.
        layout: Of a plain array.
        noise: Standard deviation of the real and of the imaginary part of each coil's noise, in the source's units;
            None to estimate it.
        noise_from: A .npy file of noise alone `(coil, ...)`, or of its covariance Psi `(coil, coil)`.
        crop: ESPIRiT's, see `coil_maps.coil_maps`.
        unchecked: Accept arrays that look like no k-space and maps that do not fit; the file records it.

    Raises:
        InfieldError: The file is missing or of another format, its contents are no centred multi-coil k-space, there
            are neither coil maps nor samples to estimate them from, or more is requested than there is.
    """
    source = Path(source)
    with open_kspace(source, layout) as file:
        kspace = file.slice(slice_number)
    if voxel is not None:
        kspace = dataclasses.replace(kspace, voxel=voxel)
    try:
        return measurement_of(
            kspace,
            name=source.name,
            hold_out=hold_out,
            seed=seed,
            coils_from=coils_from,
            undersampling=undersampling,
            resolution=resolution,
            noise=noise,
            noise_from=noise_from,
            crop=crop,
            unchecked=unchecked,
        )
    except ArgumentError:
        raise
    except InfieldError as error:
        raise error.within(source) from error


def measurement_of(
    kspace: KSpace,
    *,
    name: str,
    hold_out: float = 0.0,
    seed: int = 0,
    coils_from: str | Path | None = None,
    undersampling: Undersampling | None = None,
    resolution: float | None = None,
    noise: float | None = None,
    noise_from: str | Path | None = None,
    crop: float = CROP,
    unchecked: bool = False,
) -> ConvertedMRI:
    """Turn a slice of k-space into a measurement, see `convert_mri`.

    Arguments:
        kspace: The slice.
        name: Human-readable origin.

    Raises:
        InfieldError: As `convert_mri` does, without the file's name.
    """
    kspace, chosen = with_maps(kspace, coils_from)
    given = given_covariance(len(kspace.samples), noise, noise_from)
    if given is not None:
        kspace = dataclasses.replace(kspace, noise_covariance=given)
    kspace = without_dead_coils(kspace)
    if not unchecked:
        check_lines(kspace)
    kspace, warning = recentred(kspace)
    _check_peak(kspace.samples)
    if kspace.noise_covariance is not None and kspace.coil_maps is None:
        kspace = kspace.whitened()
    fine = kspace
    if resolution is not None:
        kspace = kspace.cropped(_coarser(kspace, resolution))
    steps = list(kspace.history)
    complete = kspace if kspace.complete else None
    if undersampling is not None:
        kspace = _undersampled(kspace, undersampling)
        fraction = kspace.mask.sum() / kspace.mask.size
        steps.append(
            f"undersampled: mask {undersampling.mask}, acceleration {undersampling.acceleration:g}, "
            f"{fraction:.1%} of the samples kept"
        )
    width = calibration_width(kspace.mask)
    calibration, calibrated = kspace.samples, width
    if kspace.calibration is not None:
        lines = calibration_width((kspace.calibration != 0).any(0))
        if lines > width or undersampling is not None:
            calibration, calibrated = kspace.calibration, lines
    held_out = _draw_held_out(kspace.mask, width, hold_out, seed)
    mask = kspace.mask & ~held_out
    maps, words = chosen_maps(kspace, chosen, calibration, calibrated, crop)
    if kspace.noise_covariance is None:
        psi, where = _estimated_noise(kspace, fine, held_out, resolution)
        noise_words = f"noise from {where}"
    else:
        psi, noise_words = (
            kspace.noise_covariance,
            "noise as given" if given is not None else "noise as the file states it",
        )
    fit = fit_of_maps(calibration, maps, calibrated, psi)
    doubts: tuple[str, ...] = ()
    if unchecked:
        steps.append("taken as it is: neither checked to be k-space nor the maps to fit it")
    else:
        doubts = check_maps(fit, words)
    zero_filled = (maps.conj() * inverse_fourier(kspace.samples * mask)).sum(0)
    scale = float(np.quantile(np.abs(zero_filled), 0.99))
    psi = psi / scale**2
    targets = {}
    truth = None
    if complete is not None and undersampling is not None:
        images = inverse_fourier(complete.samples) / scale
        image = minimum_variance_unbiased(images, maps, psi)
        truth = torch.from_numpy(np.stack([image.real, image.imag]))[None]
        targets["target_rss"] = root_sum_of_squares(images)
        steps.append("truth: minimum variance unbiased estimate from all samples, which has noise of its own")
    if kspace.target is not None:
        targets["target_file"] = kspace.target / scale
    steps.append(f"{words}, {noise_words}")
    if fit is not None:
        steps += fit.words
    steps.append(f"{DIVIDED} {scale:.6g}")
    arrays = {"mask": mask, "coil_maps": maps}
    grid = _grid(kspace)
    description = {"name": "multicoil-mri", "parameters": {}, "arrays": {key: key for key in arrays}}
    data = kspace.samples / scale
    measurement = Measurement(
        y=_real(data * mask),
        operator=build_operator(description, arrays, grid, 2),
        noise=CoilGaussianNoise(torch.from_numpy(psi)),
        grid=grid,
        channels=("real", "imag"),
        observed=torch.from_numpy(np.broadcast_to(mask, (2, *data.shape)).copy()),
        truth=truth,
        description=description,
        arrays=arrays,
    )
    return ConvertedMRI(
        measurement=measurement,
        held_out_mask=torch.from_numpy(held_out),
        held_out_y=_real(data * held_out),
        scale=scale,
        calibration_width=calibrated,
        source=name,
        steps=tuple(steps),
        targets=targets,
        unexplained=None if fit is None else fit.unexplained,
        outside=None if fit is None else fit.outside,
        warnings=(*kspace.warnings, *(() if warning is None else (warning,)), *doubts),
    )


def _estimated_noise(
    kspace: KSpace, fine: KSpace, held_out: np.ndarray, resolution: float | None
) -> tuple[np.ndarray, str]:
    """Psi of the samples, and a description of its origin; of lowered resolution, from the samples beyond."""
    if kspace.rounded:
        raise InfieldError(
            found=f"{kspace.rounded:.1%} of the samples are rounding errors: interpolated data, whose noise is unknown",
            expected="raw data, or their noise",
            remedy="give it ({noise} or {noise_from})",
            parameters=["noise", "noise_from"],
        )
    if resolution is not None:
        return estimated_covariance(fine.samples, fine.mask, _outer(fine, held_out))
    return estimated_covariance(kspace.samples, kspace.mask & ~held_out)


def _coarser(kspace: KSpace, resolution: float) -> tuple[int, int]:
    """Samples of an image whose points are about so large, mm."""
    if kspace.voxel is None:
        raise ArgumentError(
            where="{resolution}",
            found="no size of a point in the file",
            expected="one",
            remedy="give it ({voxel})",
            parameters=["resolution", "voxel"],
        )
    if not max(kspace.voxel) <= resolution < math.inf:
        raise ArgumentError(
            where="{resolution}",
            found=f"{resolution:g} mm where points are {kspace.voxel[0]:.3g} x {kspace.voxel[1]:.3g} mm",
            expected="a coarser one",
            parameters=["resolution"],
        )
    ny, nx = (round(n * mm / resolution) for n, mm in zip(kspace.mask.shape, kspace.voxel, strict=True))
    return ny, nx


def _outer(fine: KSpace, held_out: np.ndarray) -> np.ndarray:
    """The outermost samples before the resolution was lowered, where there is less signal, and none held out."""
    mask = fine.mask.copy()
    middle = tuple(slice(n // 2 - m // 2, n // 2 - m // 2 + m) for n, m in zip(mask.shape, held_out.shape, strict=True))
    mask[middle] &= ~held_out
    return outer_samples(fine.samples, mask)


def _undersampled(kspace: KSpace, undersampling: Undersampling) -> KSpace:
    if not kspace.complete:
        raise InfieldError(
            found=f"{kspace.mask.mean():.1%} of the samples with gaps between them",
            expected="a complete slice to undersample ({acceleration})",
            remedy="of such data, {hold_out} sets samples aside",
            parameters=["acceleration", "hold_out"],
        )
    lines = 1 - kspace.readout if undersampling.lines is None else undersampling.lines
    kept = kspace.mask & sampling_mask(
        undersampling.mask,
        kspace.mask.shape,
        undersampling.acceleration,
        centre_fraction=undersampling.centre_fraction,
        lines=lines,
        seed=undersampling.seed,
    )
    return dataclasses.replace(kspace, mask=kept, samples=kspace.samples * kept)


def _grid(kspace: KSpace) -> Grid:
    """Points of the image, which its transform makes periodic: in mm where the size of one is known, else by number."""
    spacing, units = ((1.0, 1.0), "pixel") if kspace.voxel is None else (kspace.voxel, "mm")
    places = zip("yx", kspace.mask.shape, spacing, strict=True)
    return Grid(tuple(Axis(axis, tuple(float(i) * step for i in range(n)), units, True) for axis, n, step in places))


def _check_peak(samples: np.ndarray) -> None:
    power = np.sum(np.abs(samples) ** 2, axis=0)
    peak = tuple(int(i) for i in np.unravel_index(power.argmax(), power.shape))
    centre = tuple(n // 2 for n in power.shape)
    if max(abs(p - c) for p, c in zip(peak, centre, strict=True)) > CALIBRATION_WIDTH // 2:
        raise InfieldError(
            found=f"the strongest sample at {peak}",
            expected=f"it near the centre {centre}",
            remedy="k-space must be centred, numpy.fft.fftshift does it",
        )


def _draw_held_out(sampled: np.ndarray, width: int, share: float, seed: int) -> np.ndarray:
    candidates = sampled.copy()
    candidates[centre_block(sampled.shape, width)] = False
    positions = np.flatnonzero(candidates)
    most = len(positions) / 2 / sampled.sum()
    if not 0 <= share <= most:
        raise ArgumentError(
            where="hold-out", found=f"a share of {share}", expected=f"at least 0 and at most {most:.2f} of the samples"
        )
    order = torch.randperm(len(positions), generator=torch.Generator().manual_seed(seed)).numpy()
    held_out = np.zeros(sampled.shape, dtype=bool)
    held_out.flat[positions[order[: round(share * int(sampled.sum()))]]] = True
    return held_out


def _real(values: np.ndarray) -> Tensor:
    """Complex data as the tensor (1, 2, ...) of their parts."""
    return torch.from_numpy(np.stack([values.real, values.imag]))[None]
