"""Multi-coil Cartesian MRI: raw k-space to a measurement.

Conventions: k-space is centred (zero frequency at index n // 2) and the transform is orthonormal,
y_c = fftshift(fft2(ifftshift(s_c x), norm="ortho")), as in sigpy, BART -u, fastMRI and deepinv.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from infield import InfieldError
from infield.datasets.coil_maps import CALIBRATION_WIDTH, KERNEL_WIDTH, calibration_width, centre_block, coil_maps
from infield.datasets.coil_noise import coil_covariance, outer_samples
from infield.datasets.measurement_file import write_measurement
from infield.datasets.measurement_layout import VERSION, complex_numbers
from infield.datasets.zarr_group import flags, open_group, variable
from infield.physics.grid import Axis, Grid
from infield.physics.measurement import Measurement
from infield.physics.noise import CoilGaussianNoise
from infield.physics.registry import build_operator

_KSPACE = ("coil", "ky", "kx")
_DIMS: Mapping[str, tuple[str, ...]] = {
    "data": _KSPACE,
    "mask": ("ky", "kx"),
    "coil_maps": ("coil", "y", "x"),
    "noise_covariance": ("coil", "coil_conjugate"),
}


@dataclass(frozen=True, kw_only=True)
class ConvertedMRI:
    """A measurement with what was set aside of it.

    Arguments:
        measurement: Data `(1, 2, coil, ky, kx)`, operator, noise law and the image's grid.
        held_out_mask: Positions that were measured and set aside, bool `(ky, kx)`; none where nothing was.
        held_out_y: Their data in the layout of the measurement's y, 0 elsewhere.
        scale: Stored data times `scale` are the data of the source.
        calibration_width: Width of the fully sampled block from which the coil maps come, in samples.
        source: Name of the file that was converted.
    """

    measurement: Measurement
    held_out_mask: Tensor
    held_out_y: Tensor
    scale: float
    calibration_width: int
    source: str

    def write(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write a measurement file; held-out samples go in as `held_out_mask` and `held_out_data`.

        Raises:
            InfieldError: `path` exists, or the disk is full.
        """
        extra = xr.Dataset({"source_scale": ((), np.float64(self.scale), {"long_name": "source data / stored data"})})
        if self.held_out_mask.any():
            y = self.held_out_y[0].numpy(force=True)
            extra["held_out_mask"] = _KSPACE[1:], self.held_out_mask.numpy(force=True).astype(np.int8)
            extra["held_out_data"] = _KSPACE, complex_numbers(y), {"units": "1"}
        width = self.calibration_width
        history = f"coil maps by ESPIRiT from the central {width} x {width} samples, noise from the outermost ones"
        write_measurement(
            path,
            self.measurement,
            overwrite=overwrite,
            title=f"Multi-coil MRI, {self.source}",
            history=f"{self.source}: divided by {self.scale:.6g}, {history}",
            dims=_DIMS,
            extra=extra,
        )


def open_held_out(path: str | Path) -> tuple[Tensor, Tensor] | None:
    """Read the samples that `ConvertedMRI.write` set aside.

    Arguments:
        path: A measurement file.

    Returns:
        `held_out_mask`, bool `(ky, kx)`, and `held_out_y` `(1, 2, coil, ky, kx)`; None where the file has none.

    Raises:
        InfieldError: The file is damaged or no measurement.
    """
    path = Path(path)
    group = open_group(path, "measurement", VERSION)
    if "held_out_mask" not in group.variables:
        return None
    mask, y = flags(path, group, "held_out_mask").values, variable(path, group, "held_out_data").values
    return torch.from_numpy(mask), torch.from_numpy(np.stack([y.real, y.imag]))[None].to(torch.float64)


def convert_mri(source: str | Path, *, hold_out: float = 0.0, seed: int = 0) -> ConvertedMRI:
    """Turn raw k-space into a measurement, with coil maps and noise estimated from the data themselves.

    *Coil maps*: ESPIRiT on the largest fully sampled centred square, at most 24 wide, cropped to the support of the
    image: sum_c |s_c|^2 = 1 inside, 0 outside. On the brain slice of sigpy's tutorial the crop leaves 0.5 % of the
    calibration block's energy unexplained, without it 0.4 % remain so; held-out samples are predicted better with it
    (relative error 0.34 against 0.37 under one and the same Gaussian prior), so it stays.
    *Noise*: the coil covariance Psi comes from the outermost tenth of the samples, see `coil_noise`. What signal is
    left there counts as noise, so the estimate errs to the large side, by a few per cent on that slice.
    *Scale*: the 99th percentile of the magnitude of the zero-filled coil combination becomes 1.

    Held-out samples enter neither the noise nor the scale, and the maps see the calibration block alone.

    Arguments:
        source: A `.npy` file with complex k-space `(coil, ky, kx)`, 0 where nothing was measured.
        hold_out: Share of all measured positions to set aside; they are drawn outside the calibration block.
        seed: Seed of that draw.

    Raises:
        InfieldError: The file is missing or of another format, its contents are no centred multi-coil k-space, or
            `hold_out` asks for more than there is.
    """
    source = Path(source)
    kspace = _read_kspace(source)
    sampled = (kspace != 0).any(0)
    width = calibration_width(sampled)
    _check_centre(source, kspace, width)
    held_out = _draw_held_out(sampled, width, hold_out, seed)
    mask = sampled & ~held_out
    maps = coil_maps(kspace, width)
    scale = float(np.quantile(np.abs((maps.conj() * _inverse_fourier(kspace * mask)).sum(0)), 0.99))
    psi = coil_covariance(outer_samples(kspace, mask)) / scale**2
    data = kspace / scale
    grid = Grid(tuple(Axis(n, tuple(map(float, range(s))), "pixel") for n, s in zip("yx", sampled.shape, strict=True)))
    arrays = {"mask": mask, "coil_maps": maps}
    description = {"name": "multicoil-mri", "parameters": {}, "arrays": {name: name for name in arrays}}
    measurement = Measurement(
        y=_real(data * mask),
        operator=build_operator(description, arrays, grid, 2),
        noise=CoilGaussianNoise(torch.from_numpy(psi)),
        grid=grid,
        channels=("real", "imag"),
        observed=torch.from_numpy(np.broadcast_to(mask, (2, *kspace.shape)).copy()),
        description=description,
        arrays=arrays,
    )
    return ConvertedMRI(
        measurement=measurement,
        held_out_mask=torch.from_numpy(held_out),
        held_out_y=_real(data * held_out),
        scale=scale,
        calibration_width=width,
        source=source.name,
    )


def _read_kspace(source: Path) -> np.ndarray:
    expected = "expected complex k-space (coil, ky, kx)"
    if source.suffix != ".npy":
        raise InfieldError(
            f"{source}: found a '{source.suffix}' file, {expected} in a NumPy '.npy' file; convert it first"
        )
    if not source.is_file():
        raise InfieldError(f"{source}: found no such file, {expected}; check the path")
    try:
        kspace = np.load(source, allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise InfieldError(
            f"{source}: found no readable NumPy file ({' '.join(str(error).split())}), {expected}"
        ) from None
    if kspace.ndim != 3:
        raise InfieldError(f"{source}: found an array of shape {kspace.shape}, {expected}; give one slice")
    if kspace.dtype.kind != "c":
        raise InfieldError(f"{source}: found values of type {kspace.dtype}, {expected}; raw data, not a picture")
    bad = int(kspace.size - np.isfinite(kspace).sum())
    if bad:
        raise InfieldError(
            f"{source}: found NaN or infinity in {bad} of {kspace.size} values, expected finite ones; set 0"
        )
    if not kspace.any():
        raise InfieldError(f"{source}: found 0 everywhere, expected measured samples")
    return kspace.astype(np.complex128)


def _check_centre(source: Path, kspace: np.ndarray, width: int) -> None:
    power = np.sum(np.abs(kspace) ** 2, axis=0)
    peak = tuple(int(i) for i in np.unravel_index(power.argmax(), power.shape))
    centre = tuple(n // 2 for n in power.shape)
    if max(abs(p - c) for p, c in zip(peak, centre, strict=True)) > CALIBRATION_WIDTH // 2:
        raise InfieldError(
            f"{source}: found the strongest sample at {peak}, expected it near the centre {centre}; k-space must be "
            "centred, numpy.fft.fftshift does it"
        )
    if width < 2 * KERNEL_WIDTH:
        raise InfieldError(
            f"{source}: found a fully sampled centre of {width} x {width}, expected at least "
            f"{2 * KERNEL_WIDTH} x {2 * KERNEL_WIDTH} samples, from which the coil maps come"
        )


def _draw_held_out(sampled: np.ndarray, width: int, share: float, seed: int) -> np.ndarray:
    candidates = sampled.copy()
    candidates[centre_block(sampled.shape, width)] = False
    positions = np.flatnonzero(candidates)
    most = len(positions) / 2 / sampled.sum()
    if not 0 <= share <= most:
        raise InfieldError(
            f"hold-out: found a share of {share}, expected at least 0 and at most {most:.2f} of the samples"
        )
    order = torch.randperm(len(positions), generator=torch.Generator().manual_seed(seed)).numpy()
    held_out = np.zeros(sampled.shape, dtype=bool)
    held_out.flat[positions[order[: round(share * int(sampled.sum()))]]] = True
    return held_out


def _inverse_fourier(kspace: np.ndarray) -> np.ndarray:
    axes = (-2, -1)
    return np.fft.fftshift(np.fft.ifft2(np.fft.ifftshift(kspace, axes), axes=axes, norm="ortho"), axes)


def _real(values: np.ndarray) -> Tensor:
    """Complex data as the tensor (1, 2, ...) of their parts."""
    return torch.from_numpy(np.stack([values.real, values.imag]))[None]
