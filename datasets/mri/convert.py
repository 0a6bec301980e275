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
from infield.datasets.mri.coil_maps import CALIBRATION_WIDTH, KERNEL_WIDTH, calibration_width, centre_block, coil_maps
from infield.datasets.mri.coil_noise import coil_covariance, outer_samples
from infield.datasets.mri.converted import ConvertedMRI
from infield.datasets.mri.kspace import KSpace, inverse_fourier, minimum_variance_unbiased, root_sum_of_squares
from infield.datasets.mri.masks import Seed, sampling_mask
from infield.datasets.mri.readers.arrays import read_maps
from infield.datasets.mri.readers.common import ArrayLayout
from infield.datasets.mri.readers.open import open_kspace
from infield.physics.measurement import Measurement
from infield.physics.mri.noise import CoilGaussianNoise
from infield.physics.operators.registry import build_operator

DIVIDED = "divided by"
"""How the step begins that says of the scale."""

ESPIRIT, FROM_FILE, UNIFORM = "espirit", "file", "uniform"
_UNIFORM_COILS = 1


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
) -> ConvertedMRI:
    """Turn a slice of raw k-space into a measurement; what the file does not say is estimated from the data.

    *Coil maps*: ESPIRiT on the largest fully sampled centred square, at most 24 wide, cropped to the support of the
    image: sum_c |s_c|^2 = 1 inside, 0 outside. On the brain slice of sigpy's tutorial the crop leaves 0.5 % of the
    calibration block's energy unexplained, without it 0.4 % remain so; held-out samples are predicted better with it
    (relative error 0.34 against 0.37 under one and the same Gaussian prior), so it stays. Maps of a file are brought
    to that normalisation.
    *Noise*: known from noise lines, and then the coils are combined so that it is white; otherwise the coil covariance
    Psi comes from the outermost tenth of the samples, see `coil_noise`. What signal is left there counts as noise, so
    the estimate errs to the large side, by a few per cent on that slice.
    *Scale*: the 99th percentile of the magnitude of the zero-filled coil combination becomes 1.

    Held-out samples enter neither the noise nor the scale, and the maps see the calibration block alone; samples that
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
        voxel: Size of a point along y and x, mm, where the file does not tell it.
        layout: Of a plain array.

    Raises:
        InfieldError: The file is missing or of another format, its contents are no centred multi-coil k-space, there
            are neither coil maps nor samples to estimate them from, or more is asked for than there is.
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
) -> ConvertedMRI:
    """Turn a slice of k-space into a measurement, see `convert_mri`.

    Arguments:
        kspace: The slice.
        name: Where it is from, for people.

    Raises:
        InfieldError: As `convert_mri` does, without the file's name.
    """
    kspace, chosen = _with_maps(kspace, coils_from)
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
    _check_peak(kspace.samples)
    held_out = _draw_held_out(kspace.mask, width, hold_out, seed)
    mask = kspace.mask & ~held_out
    maps, words = _maps(kspace, chosen, calibration, calibrated)
    zero_filled = (maps.conj() * inverse_fourier(kspace.samples * mask)).sum(0)
    scale = float(np.quantile(np.abs(zero_filled), 0.99))
    if kspace.noise_covariance is None:
        outer = outer_samples(kspace.samples, mask) if resolution is None else _outer(fine, held_out)
        psi = coil_covariance(outer) / scale**2
        noise_words = "noise from the outermost ones"
    else:
        psi = kspace.noise_covariance / scale**2
        noise_words = "noise as the file tells it"
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
    )


def _coarser(kspace: KSpace, resolution: float) -> tuple[int, int]:
    """Samples of an image whose points are about so large, mm."""
    if kspace.voxel is None:
        raise ArgumentError(
            where="{resolution}",
            found="no size of a point in the file",
            expected="one",
            remedy="tell it ({voxel})",
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


def _with_maps(kspace: KSpace, coils_from: str | Path | None) -> tuple[KSpace, str]:
    """The slice with the maps that are to be used, or without any where they are to be estimated; and how."""
    if coils_from is None:
        own = kspace.coil_maps is not None
        coils_from = FROM_FILE if own else UNIFORM if len(kspace.samples) == _UNIFORM_COILS else ESPIRIT
    if coils_from == FROM_FILE:
        if kspace.coil_maps is None:
            raise InfieldError(
                found="no coil maps in the file",
                expected="some",
                remedy="estimate them ({coils_from}) or name their file",
                parameters={"coils_from": ESPIRIT},
            )
        return kspace, FROM_FILE
    if coils_from == UNIFORM and len(kspace.samples) != _UNIFORM_COILS:
        raise InfieldError(found=f"{len(kspace.samples)} coils", expected="one for a uniform coil map")
    if coils_from in (ESPIRIT, UNIFORM):
        return dataclasses.replace(kspace, coil_maps=None), str(coils_from)
    path = Path(coils_from)
    if not path.suffix:
        raise ArgumentError(
            where="{coils_from}",
            found=f"'{coils_from}'",
            expected=f"{ESPIRIT}, {FROM_FILE}, {UNIFORM} or a file of coil maps",
            parameters=["coils_from"],
        )
    maps = read_maps(path)
    if maps.shape != kspace.samples.shape:
        raise InfieldError(
            found=f"coil maps of shape {maps.shape} in {path}",
            expected=f"{kspace.samples.shape} as the k-space has",
            remedy="coils or sizes do not match",
        )
    return dataclasses.replace(kspace, coil_maps=maps.astype(np.complex128)), str(path.name)


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


def _maps(kspace: KSpace, chosen: str, calibration: np.ndarray, width: int) -> tuple[np.ndarray, str]:
    """Normalised coil maps `(coil, y, x)`, and what they are in words."""
    if chosen == UNIFORM:
        return np.ones_like(kspace.samples), "one uniform coil"
    if kspace.coil_maps is not None:
        return normalised(kspace.coil_maps), f"coil maps from {'the file' if chosen == FROM_FILE else chosen}"
    if width < 2 * KERNEL_WIDTH:
        raise InfieldError(
            found=f"a fully sampled centre of {width} x {width} and no coil maps",
            expected=f"at least {2 * KERNEL_WIDTH} x {2 * KERNEL_WIDTH} samples, from which the coil maps come, or the "
            "maps themselves",
            remedy="({coils_from})",
            parameters=["coils_from"],
        )
    return coil_maps(calibration, width), f"coil maps by ESPIRiT from the central {width} x {width} samples"


def normalised(maps: np.ndarray) -> np.ndarray:
    """Maps with sum_c |s_c|^2 = 1, and 0 where they all but vanish, below 10^-6 of their largest."""
    norm = root_sum_of_squares(maps)
    inside = norm > 1e-6 * norm.max()
    return np.where(inside, maps / np.where(inside, norm, 1), 0)


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
