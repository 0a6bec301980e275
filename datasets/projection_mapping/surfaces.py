"""Scenes of the renderer: surfaces as depths along the camera's rays, projectors around the camera, textures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files

import numpy as np
from scipy import ndimage

from infield.core.errors import InfieldError

Height = Callable[[np.ndarray, np.ndarray], np.ndarray]

SURFACES: dict[str, Height] = {
    "plane": lambda x, y: 2.0 + 0.12 * x - 0.05 * y,
    "curved": lambda x, y: 1.8 + 0.5 * x**2 + 0.1 * y,
    "corner": lambda x, y: 2.35 - np.abs(x),
    "relief": lambda x, y: 2.0 + 0.035 * np.sin(7 * x + 1) * np.cos(6 * y) + 0.02 * np.sin(11 * (x + y)),
}
"""Depth in metres above a point (x, y), the camera at the origin looking along z."""

TEXTURES = ("mild", "hard")
FIELD_OF_VIEW = 0.7
"""Width of the camera's image, over its distance."""

MILD = ("white 9.5 (.05 D)", "neutral 8 (.23 D)", "neutral 6.5 (.44 D)", "light skin", "bluish green")


@dataclass(frozen=True)
class Spectra:
    """Measured spectra at 400, 410, ..., 700 nm: sensitivities of a camera and reflectances of a chart.

    Arguments:
        camera: Shape `(31, 3)`.
        reflectances: Shape `(24, 31)`.
        names: Of the reflectances.
    """

    camera: np.ndarray
    reflectances: np.ndarray
    names: tuple[str, ...]

    @property
    def wavelengths(self) -> np.ndarray:
        return np.arange(400, 701, 10)


def measured_spectra() -> Spectra:
    """Nikon 5100 (NPL) and BabelColor Average, as colour-science redistributes them (BSD-3-Clause)."""
    with (files(__package__) / "spectra.npz").open("rb") as file, np.load(file) as stored:
        return Spectra(stored["cam"], stored["R"], tuple(map(str, stored["names"])))


def points_of_rays(surface: str, y: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Points that rays (x, y, 1) meet, and normals towards the camera; each shape `(3, *rays)`.

    Raises:
        InfieldError: There is no surface of this name.
    """
    if surface not in SURFACES:
        raise InfieldError(
            where="{surface}", found=f"'{surface}'", expected=f"one of {', '.join(SURFACES)}", parameters=["surface"]
        )
    height = SURFACES[surface]
    z = np.full(x.shape, 2.0)
    for _ in range(60):
        z = 0.5 * z + 0.5 * height(x * z, y * z)
    at, step = np.stack([x * z, y * z, z]), 1e-4
    slope_x = (height(at[0] + step, at[1]) - height(at[0] - step, at[1])) / (2 * step)
    slope_y = (height(at[0], at[1] + step) - height(at[0], at[1] - step)) / (2 * step)
    normal = np.stack([slope_x, slope_y, -np.ones_like(z)])
    return at, normal / np.linalg.norm(normal, axis=0)


@dataclass(frozen=True)
class Pose:
    """A pinhole projector.

    Arguments:
        position: In metres, the camera at the origin.
        aim: Point at which its optical axis looks.
        raster: Height and width in pixels.
        throw: Distance over width of its image.
    """

    position: tuple[float, float, float]
    aim: tuple[float, float, float]
    raster: tuple[int, int]
    throw: float

    @property
    def axes(self) -> np.ndarray:
        """Right, down and forwards, as rows."""
        forward = np.subtract(self.aim, self.position)
        forward = forward / np.linalg.norm(forward)
        right = np.cross((0.0, 1.0, 0.0), forward)
        right = right / np.linalg.norm(right)
        return np.stack([right, np.cross(forward, right), forward])

    def pixels(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Positions (v, u) of points, shape `(2, *points)`, and their direction from the projector's axis (cosine)."""
        local = np.einsum(
            "ij,j...->i...", self.axes, points - np.reshape(self.position, (3, *(1,) * (points.ndim - 1)))
        )
        focal = self.throw * self.raster[1]
        v = focal * local[1] / local[2] + (self.raster[0] - 1) / 2
        u = focal * local[0] / local[2] + (self.raster[1] - 1) / 2
        return np.stack([v, u]), local[2] / np.linalg.norm(local, axis=0)


def poses_around(count: int, raster: tuple[int, int], generator: np.random.Generator) -> list[Pose]:
    """Projectors beside the camera whose images overlap in most of its view."""
    found = []
    for p in range(count):
        side = 0.0 if count == 1 else 2 * p / (count - 1) - 1
        jitter = generator.uniform(-0.03, 0.03, 3)
        position = (0.55 * side + 0.25 * (count == 1), 0.25 * (-1) ** p, 0.1 * (p % 3))
        aim = (0.10 * side + jitter[0], jitter[1], 2.0)
        found.append(Pose(position, aim, raster, 1.30 + 0.1 * abs(side) + jitter[2]))
    return found


def reflectance_weights(
    texture: str, shape: tuple[int, int], generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """A texture: weights of reflectances at each ray, shape `(used, y, x)`, and which of the chart these are.

    Raises:
        InfieldError: There is no texture of this name.
    """
    if texture not in TEXTURES:
        raise InfieldError(
            where="{texture}", found=f"'{texture}'", expected=f"one of {', '.join(TEXTURES)}", parameters=["texture"]
        )
    names = measured_spectra().names
    if texture == "mild":
        used = np.array([names.index(name) for name in MILD])
        noise = np.stack([ndimage.gaussian_filter(generator.normal(size=shape), shape[0] / 12) for _ in used])
        weights = np.exp(2.0 * noise / noise.std())
        weights[0] *= 3
    else:
        used = np.array([i for i in range(len(names)) if names[i] not in ("black 2 (1.5 D)", "neutral 3.5 (1.05 D)")])
        seeds = generator.uniform(0, 1, (60, 2)) * shape
        at = np.stack(np.meshgrid(*(np.arange(n) for n in shape), indexing="ij"), -1)
        cell = (((at[:, :, None] - seeds) ** 2).sum(-1)).argmin(-1)
        chosen = generator.integers(0, len(used), len(seeds))[cell]
        weights = np.stack([ndimage.gaussian_filter((chosen == i).astype(float), 1.5) for i in range(len(used))])
    return weights / weights.sum(0), used
