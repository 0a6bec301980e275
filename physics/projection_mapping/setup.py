"""A set-up: projectors, a surface and the camera that saw them, as calibration finds or a renderer states it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
from scipy import ndimage

from infield.core.errors import InfieldError
from infield.core.grid import Axis, Grid
from infield.physics.projection_mapping.multi_projector import MultiProjector

FEATHER = 0.3
"""Width over which a projector's share falls to zero at the border of its image, over the width of that image."""


@dataclass(frozen=True)
class Projector:
    """One projector.

    Arguments:
        name: Its name.
        raster: Height and width in pixels.
        warp: Positions (v, u) on its raster, NaN where a camera pixel sees none of it, shape `(2, y, x)`.
        mixing: V, camera channel by projector channel, full drive less black, shape `(3, 3, y, x)`.
        response: Light at drives 0 to 1, rising from 0 to 1, shape `(3, entries)`.
        defocus: Standard deviation of the blur, in its pixels.
    """

    name: str
    raster: tuple[int, int]
    warp: np.ndarray
    mixing: np.ndarray
    response: np.ndarray
    defocus: float = 0.0


@dataclass(frozen=True)
class Setup:
    """All projectors of one surface, at the pixels of one camera, in linear camera light with 1 at full scale.

    Arguments:
        background: Light with all drives at 0, shape `(3, y, x)`.
        projectors: At least one.
        to_srgb: Camera channels to linear sRGB, 3 x 3.
        colour: Origin of `to_srgb`.
        reflectance, form_factors, patches: Indirect light, as of `MultiProjector`; None without.
        facts: What calibration found, in JSON types.
        depth: Along the camera's axis, shape `(y, x)`, in any unit; None where geometry is not known.
        focal: Focal length in camera pixels, with depth; the axis meets the middle of the image.
    """

    background: np.ndarray
    projectors: tuple[Projector, ...]
    to_srgb: np.ndarray = field(default_factory=lambda: np.eye(3))
    colour: str = "camera RGB read as sRGB"
    reflectance: np.ndarray | None = None
    form_factors: np.ndarray | None = None
    patches: tuple[int, int] = (15, 20)
    facts: Mapping[str, Any] = field(default_factory=dict)
    depth: np.ndarray | None = None
    focal: float | None = None

    def __post_init__(self) -> None:
        if not self.projectors:
            raise InfieldError(where="set-up", found="no projector", expected="at least one that the camera sees")

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the camera's image."""
        return self.background.shape[-2], self.background.shape[-1]

    @cached_property
    def seen(self) -> np.ndarray:
        """Which camera pixels see which projector, shape `(projector, y, x)`."""
        return np.stack([np.isfinite(p.warp).all(0) & np.isfinite(p.mixing).all((0, 1)) for p in self.projectors])

    @cached_property
    def covered(self) -> np.ndarray:
        """Camera pixels that at least one projector reaches, shape `(y, x)`."""
        return np.asarray(self.seen.any(0))

    @property
    def grid(self) -> Grid:
        """Of drives and emitted light: axes (projector, v, u) of the largest raster."""
        shape = (len(self.projectors), *np.max([p.raster for p in self.projectors], axis=0))
        names = ("projector", "v", "u")
        return Grid(tuple(Axis(n, tuple(map(float, range(int(k))))) for n, k in zip(names, shape, strict=True)))

    @property
    def responses(self) -> np.ndarray:
        """Shape `(projector, 3, entries)`."""
        return np.stack([p.response for p in self.projectors])

    @cached_property
    def operator(self) -> MultiProjector:
        """Camera light above the background from emitted light, in float32."""
        return self.make_operator()

    def make_operator(self, kind: type = np.float32) -> MultiProjector:
        """As `operator`, in another precision."""
        warp = np.stack([np.where(s, p.warp, np.nan) for p, s in zip(self.projectors, self.seen, strict=True)])
        mixing = np.stack([np.where(s, p.mixing, 0) for p, s in zip(self.projectors, self.seen, strict=True)])
        defocus = [p.defocus for p in self.projectors]
        return MultiProjector(
            self.grid, warp, mixing.astype(kind), defocus, self.reflectance, self.form_factors, self.patches
        )

    def columns(self) -> np.ndarray:
        """V of each covered pixel, one column after the other, `(pixels, 3 projectors, 3)`, float32."""
        count = len(self.projectors)
        found = np.zeros((int(self.covered.sum()), 3 * count, 3), np.float32)
        for i, (p, seen) in enumerate(zip(self.projectors, self.seen, strict=True)):
            rows = seen[self.covered]
            found[rows, 3 * i : 3 * i + 3] = p.mixing[:, :, seen].transpose(2, 1, 0)
        return found

    def feather(self) -> np.ndarray:
        """Weights w of each projector at covered pixels, 0 at the border of its image and 1 where it leads, shape
        `(pixels, projectors)`."""
        parts = []
        for seen in self.seen:
            width = max(1.0, FEATHER * np.sqrt(max(1, seen.sum())))
            whole = seen.all()  # the frame of the camera is no border: no step shows beyond it
            inside = np.ones(seen.shape) if whole else np.minimum(1, ndimage.distance_transform_edt(seen) / width)
            parts.append(inside[self.covered])
        weights = np.stack(parts, 1)
        root = np.sqrt(weights)  # drives of equal projectors go with w squared: their shares fade linearly
        return np.asarray(root / np.maximum(root.max(1, keepdims=True), 1e-9))

    def without(self, *names: str) -> Setup:
        """The set-up with some projectors switched off; their black level stays in the background.

        Raises:
            InfieldError: There is none of that name, or none is left.
        """
        known = [p.name for p in self.projectors]
        for name in names:
            if name not in known:
                raise InfieldError(where="projectors", found=f"'{name}'", expected=f"one of {', '.join(known)}")
        return replace(self, projectors=tuple(p for p in self.projectors if p.name not in names))

    def image(self, pixels: np.ndarray) -> np.ndarray:
        """Values of covered pixels as an image, 0 elsewhere: `(pixels, ...)` to `(..., y, x)`."""
        image = np.zeros((*pixels.shape[1:], *self.shape), pixels.dtype)
        image[..., self.covered] = np.moveaxis(pixels, 0, -1)
        return image
