"""Undersampled k-space to judge samplers by: simulated, where the truth is known, and real.

Coils are mixed and scaled so that noise is white and the squares of the maps sum to 1 at most: libraries that support
white noise alone then have the same problem, and weights of penalties and guidance mean the same in every case.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from infield.core.grid import Grid
from infield.core.randomness import SampleStreams
from infield.datasets.mri.brains import BrainPhantom
from infield.datasets.mri.convert import Undersampling, convert_mri, measurement_of
from infield.datasets.mri.converted import ConvertedMRI
from infield.datasets.mri.kspace import KSpace, fourier
from infield.physics.measurement import Measurement
from infield.physics.mri.multicoil import MultiCoilMRI
from infield.physics.mri.noise import CoilGaussianNoise
from infield.physics.noise.registry import GaussianNoise
from infield.physics.operators.registry import build_operator

SPACING = 1.875
"""Pixel size of the shipped prior of brains, mm."""

COILS, NOISE = 8, 0.02
UNSEEN = 2000
"""Seed of the brains; the prior was trained on those of seed 1000."""


@dataclass(frozen=True)
class Case:
    """One measurement and what its reconstructions are compared with.

    Arguments:
        group: Kind of case, first word of a row.
        number: Of the case.
        measurement: With white noise.
        truth: Complex image `(1, 2, y, x)` in the measurement's units; None where there is none.
        held_out: Samples that were set aside, of the same coils; None where none were.
    """

    group: str
    number: int
    measurement: Measurement
    truth: Tensor | None = None
    held_out: HeldOut | None = None


@dataclass(frozen=True)
class HeldOut:
    """Samples that were measured and set aside.

    Arguments:
        operator: Gives them.
        y: Their values, real and imaginary parts, shape `(data,)`.
        variance: Of the noise of each.
    """

    operator: MultiCoilMRI
    y: Tensor
    variance: float

    def predict(self, x: Tensor) -> Tensor:
        """Noise-free data of images `(batch, 2, y, x)`, shape `(batch, data)`."""
        return self.operator.A(x)[:, self.operator.observed]


def simulated(number: int, acceleration: int, *, points: int = 128, coils: int = COILS) -> Case:
    """A brain that no prior has seen, by smooth coils, every so many lines and the middle; noise 0.02 in each part.

    Arguments:
        number: Of the brain, and of its noise and mask.
        acceleration: 4 or 8, of fastMRI's equispaced masks.
        points: Along each axis, 1.875 mm apart, at least 96.
        coils: Around the head.
    """
    fov = points * SPACING
    grid = Grid.regular((points, points), (fov, fov), names=("y", "x"), units="mm", periodic=True)
    image = BrainPhantom(fov=fov).draw(grid, SampleStreams(UNSEEN, [number]).normal)[0].numpy()
    rng = np.random.default_rng(number)
    maps = smooth_coils(points, coils)
    parts = rng.standard_normal((2, coils, points, points))
    kspace = KSpace(
        samples=fourier(maps * image) + NOISE * (parts[0] + 1j * parts[1]),
        mask=np.ones((points, points), dtype=bool),
        coil_maps=maps,
        noise_covariance=np.eye(coils, dtype=complex) * 2 * NOISE**2,
        voxel=(SPACING, SPACING),
    )
    scan = Undersampling(acceleration=acceleration, mask="equispaced", seed=number)
    converted = measurement_of(kspace, name="simulated", undersampling=scan)
    truth = torch.from_numpy(np.stack([image.real, image.imag]))[None] / converted.scale
    return Case(f"{acceleration}x", number, replace(white(converted.measurement), truth=truth), truth)


def smooth_coils(points: int, coils: int) -> np.ndarray:
    """Maps `(coil, y, x)` of Gaussian shape around the field of view, squares summing to 1."""
    y, x = np.meshgrid(*[np.linspace(-1, 1, points)] * 2, indexing="ij")
    angles = 2 * np.pi * np.arange(coils) / coils
    maps = np.stack([np.exp(-0.6 * ((y - 1.2 * np.cos(a)) ** 2 + (x - 1.2 * np.sin(a)) ** 2) + 1j * a) for a in angles])
    return np.asarray(maps / np.sqrt((np.abs(maps) ** 2).sum(0)))


def thinned(path: Path, voxel: float, seed: int) -> Case:
    """The real 8-channel slice: half of its samples outside the calibration block are set aside.

    Arguments:
        path: Of the file, which lacks the size of its points.
        voxel: That size, mm; the image is coarsened to 1.875 mm.
        seed: Of the choice.
    """

    def converted(hold_out: float) -> ConvertedMRI:
        return convert_mri(path, hold_out=hold_out, seed=seed, voxel=(voxel, voxel), resolution=SPACING)

    whole = converted(0.0)
    sampled = int(whole.measurement.operator.observed[0, 0].sum())  # type: ignore[union-attr,index]
    kept = converted((sampled - whole.calibration_width**2) / 2 / sampled)
    measurement = white(kept.measurement)
    arrays = {**measurement.arrays, "mask": kept.held_out_mask.numpy()}
    operator = build_operator(measurement.description, arrays, measurement.grid, 2)
    assert isinstance(operator, MultiCoilMRI) and isinstance(measurement.noise, GaussianNoise)
    _, mixed, _ = _mixed(kept.measurement, kept.held_out_y)
    held_out = HeldOut(operator, mixed[0][operator.observed], float(measurement.noise.variance))
    return Case("real 8 coils", seed, measurement, held_out=held_out)


def fully_sampled(path: Path, acceleration: int, *, fov: float = 240.0) -> Case:
    """The real single-coil slice, sagittal: its reference is the image of all samples, coarsened alike, noise and all.

    Arguments:
        path: Of the file, which lacks its field of view.
        acceleration: 4 or 8, of fastMRI's equispaced masks.
        fov: Field of view, mm.
    """
    voxel = fov / 256
    scan = Undersampling(acceleration=acceleration, mask="equispaced", seed=0)
    converted = convert_mri(path, voxel=(voxel, voxel), resolution=SPACING, undersampling=scan)
    truth = converted.measurement.truth
    return Case(f"real 1 coil {acceleration}x", 0, white(converted.measurement), truth)


def white(measurement: Measurement) -> Measurement:
    """The same measurement with its coils mixed and scaled, see above; fields and posterior are unchanged."""
    maps, y, scale = _mixed(measurement, measurement.y)
    arrays = {**measurement.arrays, "coil_maps": maps.numpy()}
    return replace(
        measurement,
        y=y,
        operator=build_operator(measurement.description, arrays, measurement.grid, 2),
        noise=GaussianNoise(torch.tensor(0.5 / scale**2, dtype=torch.float64)),
        arrays=arrays,
    )


def _mixed(measurement: Measurement, y: Tensor) -> tuple[Tensor, Tensor, float]:
    """L^{-1} s / c and L^{-1} y / c, L L^H the covariance of the coils: complex maps `(coil, y, x)`, data of y's shape,
    and c."""
    operator, noise = measurement.operator, measurement.noise
    assert isinstance(operator, MultiCoilMRI) and isinstance(noise, CoilGaussianNoise)
    root = torch.linalg.cholesky(noise.covariance)

    def mixed(x: Tensor) -> Tensor:
        return torch.linalg.solve_triangular(root, x.flatten(1).to(root), upper=False).reshape(x.shape)

    assert isinstance(operator.coil_maps, Tensor)
    data = mixed(torch.view_as_complex(y[0].movedim(0, -1).contiguous()))
    maps = mixed(operator.coil_maps[0].to(root))
    scale = float(maps.abs().square().sum(0).max().sqrt())
    return maps / scale, torch.view_as_real(data).movedim(-1, 0)[None] / scale, scale
