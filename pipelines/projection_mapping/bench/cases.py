"""Scenes, their captures and calibrations, pictures, and what is shown of drives."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from scipy import ndimage

from infield.datasets.projection_mapping.calibrate import calibrate
from infield.datasets.projection_mapping.capture import write_captures
from infield.datasets.projection_mapping.captures import open_captures
from infield.datasets.projection_mapping.images import Picture, fit_to, read_picture
from infield.datasets.projection_mapping.renderer import Scene
from infield.physics.projection_mapping.colour import decode, delta_e_2000, encode
from infield.physics.projection_mapping.compensate import drives_to_rasters, quantise
from infield.physics.projection_mapping.extra import require
from infield.physics.projection_mapping.gamut import IN_GAMUT, nearest
from infield.physics.projection_mapping.pixelwise import least_squares_clipped, linear_clipped
from infield.physics.projection_mapping.setup import Setup


@dataclass(frozen=True)
class Case:
    """A scene by name.

    Arguments:
        surface, texture, projectors, defocus, albedo, seed: As of `Scene`.
    """

    surface: str
    texture: str
    projectors: int
    defocus: float
    albedo: float
    seed: int


SCENES = {
    "plane-mild-2": Case("plane", "mild", 2, 1.5, 0.7, 1),
    "curved-hard-3": Case("curved", "hard", 3, 0.8, 0.8, 2),
    "relief-mild-1": Case("relief", "mild", 1, 1.5, 0.7, 3),
    "corner-mild-2": Case("corner", "mild", 2, 0.8, 0.55, 4),
}
SEAM = {"seam-mild-2": Case("plane", "mild", 2, 0.5, 0.7, 1)}
CORNER = "corner-mild-2"
PHOTOGRAPHS = (
    *("astronaut", "chelsea", "coffee", "rocket", "motorcycle_left", "retina"),
    *("ihc", "hubble_deep_field", "color", "camera", "china", "flower"),
)
QUICK_PICTURES = 2
OUTSIDE_SHARE = 0.05


@cache
def scene(name: str, height: int) -> Scene:
    case = (SCENES | SEAM)[name]
    return Scene(
        case.surface, case.texture, case.projectors, height, case.defocus, case.albedo, case.surface == "corner",
        seed=case.seed,
    )  # fmt: skip


@cache
def truth(name: str, height: int) -> Setup:
    return scene(name, height).truth()


@cache
def calibrated(name: str, height: int, frames: int = 1, seed: int = 0) -> Setup:
    """The set-up that noisy captures of 8 bits give, 8000 electrons at full scale."""
    with tempfile.TemporaryDirectory() as folder:
        write_captures(Path(folder), scene(name, height), frames=frames, seed=seed)
        return calibrate(open_captures(Path(folder)))


def pictures(shape: tuple[int, int], count: int | None = None) -> dict[str, np.ndarray]:
    """Linear light of the held-out photographs, shape `(3, y, x)`, by name."""
    folders = [
        Path(require("skimage").__file__).parent / "data",
        Path(require("sklearn").__file__).parent / "datasets/images",
    ]
    found = {}
    for name in PHOTOGRAPHS[:count]:
        (path,) = [p for f in folders for p in f.glob(f"{name}.*") if p.suffix in (".png", ".jpg")][:1]
        picture: Picture = fit_to(read_picture(path), shape)
        found[name] = decode(torch.from_numpy(np.clip(picture.code, 0, 1))).numpy()
    return found


def inside_target(setup: Setup, picture: np.ndarray) -> np.ndarray:
    """The picture, less saturated and lifted above the background, as bright as leaves 95 % of the pixels inside."""
    covered, columns = setup.covered, setup.columns()
    soft = 0.55 * picture + 0.45 * picture.mean(0)
    low = 1.5 * float(np.quantile(setup.background[:, covered], 0.99))
    bounds = [0.0, 1.5]
    for _ in range(9):
        gain = 0.5 * (bounds[0] + bounds[1])
        target = low + gain * soft
        far = nearest(columns, (target - setup.background)[:, covered].T).distance > IN_GAMUT
        bounds[int(far.mean() > OUTSIDE_SHARE)] = gain
    return np.asarray(low + bounds[0] * soft)


def bright_target(setup: Setup, picture: np.ndarray, factor: float = 1.0) -> np.ndarray:
    """The picture with its white at what the median pixel can show of white, times a factor."""
    from infield.physics.projection_mapping.gamut import largest_gain

    gain = largest_gain(setup.columns(), np.ones((int(setup.covered.sum()), 3)))
    return np.asarray(factor * float(np.nanmedian(gain)) * picture)


def show(rendered: Scene, setup: Setup, light: np.ndarray | torch.Tensor) -> np.ndarray:
    """What the renderer shows for emitted light, rounded to drives of 8 bits, shape `(3, y, x)`."""
    codes, _ = quantise(setup, np.asarray(light, dtype=np.float64))
    by_name = {p.name: c.transpose(2, 0, 1) / 255 for p, c in zip(setup.projectors, codes, strict=True)}
    return rendered.light([by_name.get(f"projector_{p}") for p in range(len(rendered.poses))])


def linear_then_clip(setup: Setup, target: np.ndarray) -> torch.Tensor:
    """Peer: each projector inverts its share, clipped (Nayar et al. 2003; Grossberg et al. 2004)."""
    b = (target - setup.background)[:, setup.covered].T
    return drives_to_rasters(setup, linear_clipped(setup.columns(), b, np.repeat(setup.feather(), 3, 1)))


def least_squares_then_clip(setup: Setup, target: np.ndarray) -> torch.Tensor:
    """Peer: least squares, clipped."""
    b = (target - setup.background)[:, setup.covered].T
    return drives_to_rasters(setup, least_squares_clipped(setup.columns(), b))


def judged(setup: Setup) -> np.ndarray:
    """Covered pixels but the outermost three, at which pictures are compared."""
    return np.asarray(ndimage.binary_erosion(setup.covered, iterations=3))


def psnr(a: np.ndarray, b: np.ndarray, inside: np.ndarray) -> float:
    return float(-10 * np.log10(np.mean((code(a) - code(b))[:, inside] ** 2)))


def delta_e(a: np.ndarray, b: np.ndarray, inside: np.ndarray) -> float:
    return float(delta_e_2000(a, b)[inside].mean())


def code(light: np.ndarray) -> np.ndarray:
    return np.asarray(encode(torch.from_numpy(np.ascontiguousarray(light, np.float64))).clamp(0, 1).numpy())


FEWEST_PAIRS = 6
"""Pictures from which a standard error is estimated."""


def paired(differences: list[float]) -> tuple[float, float]:
    """Mean and its standard error; 0 of fewer pictures than `FEWEST_PAIRS`, so that no target is met by an error."""
    n = len(differences)
    error = np.std(differences, ddof=1) / np.sqrt(n) if n >= FEWEST_PAIRS else 0.0
    return float(np.mean(differences)), float(error)
