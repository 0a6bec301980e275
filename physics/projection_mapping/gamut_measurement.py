r"""A measurement of a picture from what the projectors of a set-up can show, and from what else it is to follow.

    log p(x) = - sum over pixels of d^2 / 2 s^2                                gamut, d the distance, s the tolerance
               - W_e sum |xi . grad (L x - 4 S)|^2 / (2 * 0.15^2)              edges of the surface S (`edge-gradient`)
               - W_d sum |L x - 0.15 shading|^2 / (2 * 0.1^2)                  shading of the object's normals
               - W_l sum |B x - B picture|^2 / (2 * 0.1^2)                     a picture that it is to be like
               - sum |x - known|^2 / (2 * 0.02^2)                              pixels that another view has shown

x holds sRGB codes. L x is their luma, in the third line its means over blocks, less their mean; B takes means over
blocks, 8 down the picture. S is the code of the surface under white light; the shading is standardised, mean 0 and
variance 1 over blocks. Sums are over pixels or blocks and channels that the projectors reach.
Each term is a part of one stacked measurement: an operator and a noise model that a file names.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from infield.core.errors import InfieldError
from infield.core.grid import Axis, Grid
from infield.physics.measurement import Measurement
from infield.physics.noise.base import NoiseModel
from infield.physics.noise.gaussian import GaussianNoise
from infield.physics.noise.stack import stacked
from infield.physics.operators.registry import build_operator
from infield.physics.projection_mapping.colour import encode
from infield.physics.projection_mapping.gamut_law import GamutNoise
from infield.physics.projection_mapping.guidance import block_means, edges_of, shading
from infield.physics.projection_mapping.indirect import positions_from_depth
from infield.physics.projection_mapping.setup import Setup

BLOCKS_DOWN = 8
EDGE_SD, LOW_PASS_SD, KNOWN_SD, SHADING_CONTRAST = 0.15, 0.1, 0.02, 0.15
"""Standard deviations at a weight of 1, and the contrast that follows the shading, all in sRGB codes."""
EDGE_GAIN = 4.0
"""Steps that the picture is asked for, over the surface's own: those of pictures are about twice a surface's anyway."""


@dataclass(frozen=True)
class Guides:
    """What the picture follows besides the gamut; a weight of 0 leaves it out.

    Arguments:
        edges, depth, like: Weights.
        picture: What it is to be like, sRGB codes on the measurement's pixels, shape `(3, y, x)`.
        known: What it shares with another view, likewise, NaN where it shares nothing.
    """

    edges: float = 0.0
    depth: float = 0.0
    like: float = 0.0
    picture: np.ndarray | None = None
    known: np.ndarray | None = None

    def __post_init__(self) -> None:
        for name in ("edges", "depth", "like"):
            weight = getattr(self, name)
            if not (math.isfinite(weight) and weight >= 0):
                raise InfieldError(where=name, found=f"a weight of {weight}", expected="0 or more")


@dataclass(frozen=True)
class _Part:
    """One term: its operator as a file describes it, its noise and data."""

    description: dict[str, Any]
    arrays: dict[str, np.ndarray]
    noise: NoiseModel
    data: Tensor
    observed: Tensor


def gamut_measurement(
    setup: Setup, exposure: float, tolerance: float, every: int = 1, guides: Guides | None = None
) -> Measurement:
    """The gamut as a law of pictures, and guides; pixels that no projector reaches count for nothing.

    Arguments:
        setup: The set-up; indirect light is left out, as it ties pixels together.
        exposure: Camera light of the picture's white.
        tolerance: s, in linear camera light.
        every: Takes every Nth pixel down and across; the picture's own pixels count, so that its spacing is 1.
        guides: What else the picture follows.

    Raises:
        InfieldError: No pixel is covered, or a guide lacks what it needs.
    """
    part = (slice(None, None, every), slice(None, None, every))
    covered = setup.covered[part]
    if not covered.any():
        raise InfieldError(where="set-up", found="no pixel that a projector reaches", expected="some")
    grid = Grid(tuple(Axis(n, tuple(map(float, range(k))), "1") for n, k in zip("yx", covered.shape, strict=True)))
    gamut = _gamut(setup, exposure, tolerance, part)
    guides = guides or Guides()
    others = []
    if guides.edges:
        others.append(_edges(setup, covered, part, guides.edges))
    if guides.depth:
        others.append(_depth(setup, covered, part, guides.depth))
    if guides.like:
        others.append(_like(covered, guides))
    if guides.known is not None and np.isfinite(guides.known).any():
        others.append(_known(covered, guides.known))
    return _joined(grid, [gamut, *others]) if others else _alone(grid, gamut)


def _gamut(setup: Setup, exposure: float, tolerance: float, part: tuple[slice, slice]) -> _Part:
    covered = setup.covered[part]
    mixing = np.stack([
        np.where(seen[part], p.mixing[(..., *part)], 0) for p, seen in zip(setup.projectors, setup.seen, strict=True)
    ])  # fmt: skip
    parameters: dict[str, object] = {"exposure": float(exposure)}
    if not np.array_equal(setup.to_srgb, np.eye(3)):
        parameters["to_srgb"] = np.asarray(setup.to_srgb, float).tolist()
    noise = GamutNoise(
        torch.from_numpy(mixing.astype(np.float32)),
        torch.from_numpy(setup.background[(..., *part)].astype(np.float32)),
        tolerance,
    )
    zeros = torch.zeros((3, *covered.shape), dtype=torch.float64)
    observed = torch.from_numpy(np.broadcast_to(covered, zeros.shape).copy())
    return _Part({"name": "display", "parameters": parameters}, {}, noise, zeros, observed)


def _edges(setup: Setup, covered: np.ndarray, part: tuple[slice, slice], weight: float) -> _Part:
    xi, steps = edges_of(surface_code(setup)[part], covered)
    return _Part(
        {"name": "edge-gradient", "arrays": {"direction": "edge_direction"}},
        {"edge_direction": xi.astype(np.float32)},
        _gaussian(EDGE_SD, weight),
        torch.from_numpy(EDGE_GAIN * steps)[None],
        torch.from_numpy(covered.copy())[None],
    )


def _depth(setup: Setup, covered: np.ndarray, part: tuple[slice, slice], weight: float) -> _Part:
    if setup.depth is None or setup.focal is None:
        raise InfieldError(
            where="set-up", found="no depth", expected="geometry in the captures, for a picture that follows it",
            remedy="add geometry (depth, focal) to setup.yaml and convert the captures again",
        )  # fmt: skip
    points = positions_from_depth(setup.depth, setup.focal, tuple((n - 1) / 2 for n in setup.shape))  # type: ignore[arg-type]
    blocks, seen = _blocks(covered)
    coarse = _means(shading(points)[part], blocks)
    spread = float(coarse[seen].std())
    if not spread > 1e-3:
        raise InfieldError(where="set-up", found="a plane: its shading is the same everywhere", expected="a relief")
    wanted = SHADING_CONTRAST * (coarse - coarse.mean()) / spread
    return _Part(
        {"name": "low-pass", "parameters": {"blocks": list(blocks), "luma": True}},
        {},
        _gaussian(LOW_PASS_SD, weight),
        torch.from_numpy(wanted)[None],
        torch.from_numpy(seen)[None],
    )


def _like(covered: np.ndarray, guides: Guides) -> _Part:
    picture = guides.picture
    if picture is None or picture.shape != (3, *covered.shape):
        found = "none" if picture is None else f"one of shape {picture.shape}"
        raise InfieldError(where="the picture to be like", found=found, expected=f"shape {(3, *covered.shape)}")
    blocks, seen = _blocks(covered)
    return _Part(
        {"name": "low-pass", "parameters": {"blocks": list(blocks)}},
        {},
        _gaussian(LOW_PASS_SD, guides.like),
        torch.from_numpy(np.stack([_means(channel, blocks) for channel in picture])),
        torch.from_numpy(np.broadcast_to(seen, (3, *blocks)).copy()),
    )


def _known(covered: np.ndarray, known: np.ndarray) -> _Part:
    if known.shape != (3, *covered.shape):
        raise InfieldError(where="known pixels", found=f"shape {known.shape}", expected=f"{(3, *covered.shape)}")
    seen = np.isfinite(known).all(0)
    return _Part(
        {"name": "mask", "arrays": {"mask": "known"}},
        {"known": seen.astype(np.uint8)},
        _gaussian(KNOWN_SD, 1.0),
        torch.from_numpy(np.where(seen, known, 0.0)),
        torch.from_numpy(np.broadcast_to(seen, known.shape).copy()),
    )


def _gaussian(sd: float, weight: float) -> GaussianNoise:
    return GaussianNoise(torch.tensor(sd**2 / weight, dtype=torch.float64))


def surface_code(setup: Setup) -> np.ndarray:
    """The surface under white light, as the brighter half of the camera's code shows it, shape `(y, x)`.

    Light of all projectors is divided by its slow part, so that falloff and overlaps count for little.
    """
    from scipy import ndimage

    white = sum(np.where(s, p.mixing.sum(1), 0) for p, s in zip(setup.projectors, setup.seen, strict=True))
    luma = np.einsum("c,cyx->yx", (0.2126, 0.7152, 0.0722), np.asarray(white))
    width, weight = setup.shape[0] / 4, setup.covered.astype(float)
    slow = ndimage.gaussian_filter(luma * weight, width) / np.maximum(ndimage.gaussian_filter(weight, width), 1e-6)
    flat = 0.5 * luma / np.maximum(slow, 1e-9)
    return np.asarray(np.where(setup.covered, encode(torch.from_numpy(flat)).numpy(), 0.0))


def _blocks(covered: np.ndarray) -> tuple[tuple[int, int], np.ndarray]:
    """Numbers of blocks, and which are covered by more than half."""
    height, width = covered.shape
    down = min(BLOCKS_DOWN, height)
    blocks = down, min(max(1, round(down * width / height)), width)
    return blocks, _means(covered.astype(float), blocks) > 0.5


def _means(image: np.ndarray, blocks: tuple[int, int]) -> np.ndarray:
    down, across = (block_means(n, k) for n, k in zip(image.shape, blocks, strict=True))
    return np.asarray(down @ image @ across.T)


def _alone(grid: Grid, part: _Part) -> Measurement:
    return Measurement(
        y=part.data[None],
        operator=build_operator(part.description, part.arrays, grid, 3),
        noise=part.noise,
        grid=grid,
        channels=("red", "green", "blue"),
        units="1",
        observed=part.observed,
        description=part.description,
        data_units="1",
    )


def _joined(grid: Grid, parts: list[_Part]) -> Measurement:
    description = {"name": "stack", "operators": [part.description for part in parts]}
    arrays = {name: values for part in parts for name, values in part.arrays.items()}
    observed = torch.cat([part.observed.flatten() for part in parts])[None]
    data = torch.cat([part.data.flatten() for part in parts])[None]
    return Measurement(
        y=torch.where(observed, data, 0.0)[None],
        operator=build_operator(description, arrays, grid, 3),
        noise=stacked([part.noise for part in parts], [part.data.numel() for part in parts]),
        grid=grid,
        channels=("red", "green", "blue"),
        units="1",
        observed=observed,
        description=description,
        arrays=arrays,
        data_units="1",
    )
