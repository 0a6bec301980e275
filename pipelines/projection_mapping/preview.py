"""A smaller set-up, on which compensation takes a fraction of a second, and its pictures as PNG."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from infield.physics.projection_mapping.colour import decode
from infield.physics.projection_mapping.compensate import Compensation, compensate
from infield.physics.projection_mapping.extra import require
from infield.physics.projection_mapping.setup import Projector, Setup
from infield.pipelines.projection_mapping.compensation import maps_of, report

HEIGHT, WIDTH = 240, 320
"""Largest size of a preview."""


def step_of(shape: tuple[int, int], height: int = HEIGHT, width: int = WIDTH) -> int:
    """The least N of which every Nth pixel fits."""
    return max(1, -(-shape[0] // height), -(-shape[1] // width))


def smaller(setup: Setup, height: int = HEIGHT, width: int = WIDTH) -> Setup:
    """Every Nth pixel of the camera, on rasters of every Nth pixel; N is the least that fits."""
    n = step_of(setup.shape, height, width)
    if n == 1:
        return setup
    part = (..., slice(None, None, n), slice(None, None, n))
    projectors = tuple(
        Projector(
            p.name,
            (-(-p.raster[0] // n), -(-p.raster[1] // n)),
            (p.warp[part] + 0.5) / n - 0.5,
            p.mixing[part],
            p.response,
            p.defocus / n,
        )
        for p in setup.projectors
    )
    cut = lambda image: None if image is None else image[part]  # noqa: E731
    return replace(
        setup,
        background=setup.background[part],
        projectors=projectors,
        reflectance=cut(setup.reflectance),
        depth=cut(setup.depth),
        focal=None if setup.focal is None else setup.focal / n,
    )


def preview(setup: Setup, picture: np.ndarray, exposure: float, **choices: Any) -> dict[str, Any]:
    """Compensate for a picture: figures, and pictures as data URIs.

    Arguments:
        setup: A small one.
        picture: sRGB codes, shape `(3, y, x)` of the set-up.
        exposure: Camera light of the picture's white.
        choices: As of `compensate`.
    """
    light = exposure * decode(torch.from_numpy(picture)).numpy()
    found: Compensation = compensate(setup, np.einsum("ij,jyx->iyx", np.linalg.inv(setup.to_srgb), light), **choices)
    images: Mapping[str, np.ndarray] = maps_of(setup, found)
    shown = {name: image for name, image in images.items() if name in ("target", "appearance", "residual", "gamut")}
    of_projectors = {p.name: codes for p, codes in zip(setup.projectors, found.codes, strict=True)}
    return {
        "figures": report(setup, found, exposure),
        "images": {name: as_uri(image) for name, image in shown.items()},
        "projectors": {name: as_uri(codes) for name, codes in of_projectors.items()},
    }


def as_uri(image: np.ndarray) -> str:
    """An image of 8 bits, `(y, x, 3)`, as a PNG in a data URI."""
    _, data = require("cv2").imencode(".png", image[..., ::-1])
    return "data:image/png;base64," + base64.b64encode(data.tobytes()).decode("ascii")
