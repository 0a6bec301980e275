"""Compensation of a set-up: drives of all projectors whose appearance comes nearest to a target."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from infield.physics.projection_mapping.choices import Error, Scale
from infield.physics.projection_mapping.gamut import IN_GAMUT, nearest
from infield.physics.projection_mapping.joint import solve_jointly
from infield.physics.projection_mapping.pixelwise import PIXELS_PER_BLOCK, solve_pixels
from infield.physics.projection_mapping.raster import to_raster
from infield.physics.projection_mapping.response import drive_of_light
from infield.physics.projection_mapping.scale import Scaled, scale_target
from infield.physics.projection_mapping.setup import Setup

BOUNCE_ROUNDS = 3
"""How often the indirect light of a pixelwise solution is subtracted from the target and the pixels solved again."""


@dataclass(frozen=True)
class Compensation:
    """Drives and what they are predicted to show; light is linear camera light.

    Arguments:
        codes: Drive codes of each projector, shape `(v, u, 3)`, unsigned integers.
        light: Emitted light of these codes, shape `(3, projector, v, u)`.
        appearance: Predicted, shape `(3, y, x)`.
        scaled: The target as it was scaled.
        distance: Of the scaled target from each pixel's gamut, shape `(y, x)`.
        clipped: Share of each projector's lit pixels, of each channel at 0 or full drive, `(projector, 2)`.
    """

    codes: list[np.ndarray]
    light: np.ndarray
    appearance: np.ndarray
    scaled: Scaled
    distance: np.ndarray
    clipped: np.ndarray

    def outside(self, covered: np.ndarray) -> float:
        """Share of covered pixels whose target cannot be shown."""
        return float((self.distance[covered] > IN_GAMUT).mean())


def compensate(
    setup: Setup,
    target: np.ndarray,
    *,
    error: Error = "coded",
    scale: Scale = "none",
    iterations: int = 60,
    bits: int = 8,
    dither: bool = False,
    seed: int = 0,
) -> Compensation:
    """Solve for the drives of all projectors.

    Arguments:
        setup: Projectors and surface.
        target: Wanted appearance in linear camera light, shape `(3, y, x)`.
        error: What is minimised.
        scale: How the target is scaled beforehand.
        iterations: Of the joint solve; 0 for the pixelwise solution alone.
        bits: Of the drive codes, 8 or 16.
        dither: Whether rounding is random, so that means of neighbours are right.
        seed: Of the dither.
    """
    columns = setup.columns()
    scaled = scale_target(setup, columns, target, scale)
    operator = setup.operator
    light = pixelwise_light(setup, scaled.target, error, columns)
    wanted = (scaled.target - setup.background)[:, setup.covered].T
    blocks = range(0, len(wanted), PIXELS_PER_BLOCK)  # memory
    far = [nearest(columns[i : i + PIXELS_PER_BLOCK], wanted[i : i + PIXELS_PER_BLOCK]).distance for i in blocks]
    distance = setup.image(np.concatenate(far))
    del columns, wanted
    if iterations:
        light = light.to(operator.mixing.dtype)  # memory
        light = solve_jointly(
            operator,
            torch.from_numpy(setup.background),
            torch.from_numpy(scaled.target),
            torch.from_numpy(setup.covered),
            light,
            error=error,
            to_srgb=torch.from_numpy(setup.to_srgb),
            iterations=iterations,
        )
    codes, emitted = quantise(setup, light.numpy(), bits, dither, seed)
    appearance = setup.background + operator.A(torch.from_numpy(emitted).float()[None])[0].double().numpy()
    top = 2**bits - 1
    clipped = np.array([[float((c[c.any(-1)] == end).mean()) if c.any() else 0.0 for end in (0, top)] for c in codes])
    return Compensation(codes, emitted, appearance, scaled, distance, clipped)


def pixelwise_light(setup: Setup, target: np.ndarray, error: Error, columns: np.ndarray | None = None) -> torch.Tensor:
    """The pixelwise solution on the projectors' rasters, indirect light subtracted; shape `(3, projector, v, u)`."""
    columns = setup.columns() if columns is None else columns
    operator, covered = setup.operator, setup.covered
    weights = np.repeat(setup.feather().astype(np.float32), 3, 1)
    ground, wanted = setup.background[:, covered].T.astype(np.float64), target[:, covered].T.astype(np.float64)
    bounce = np.zeros_like(ground)
    light = torch.zeros((3, *operator.grid.shape))
    rounds = BOUNCE_ROUNDS if operator.form_factors is not None else 1
    for k in range(rounds):
        last = k + 1 == rounds  # indirect light is smooth: where it comes from is known without the code
        s = solve_pixels(columns, ground + bounce, wanted, weights, error if last else "linear", setup.to_srgb)
        light = drives_to_rasters(setup, s)
        if not last:
            direct = operator.direct_light(light.float()[None])
            bounce = (operator.with_bounces(direct) - direct)[0][:, torch.from_numpy(covered)].T.double().numpy()
    return light


def drives_to_rasters(setup: Setup, s: np.ndarray) -> torch.Tensor:
    """Drives at covered camera pixels, `(pixels, 3 projectors)`, on the rasters, `(3, projector, v, u)`."""
    operator = setup.operator
    image = torch.from_numpy(setup.image(s))
    light = torch.empty((3, *operator.grid.shape), dtype=torch.float64)
    for p, (projector, seen) in enumerate(zip(setup.projectors, setup.seen, strict=True)):
        warp = np.where(seen, projector.warp, np.nan)
        light[:, p] = to_raster(operator, p, warp, image[3 * p : 3 * p + 3])
    return light


def quantise(
    setup: Setup, light: np.ndarray, bits: int = 8, dither: bool = False, seed: int = 0
) -> tuple[list[np.ndarray], np.ndarray]:
    """Drive codes of emitted light, and the light that they emit.

    Returns:
        Codes of each projector `(v, u, 3)`, and light of the shape of `light`.
    """
    top, kind = 2**bits - 1, np.uint8 if bits == 8 else np.uint16
    offset = np.random.default_rng(seed).random(light.shape) if dither else None
    codes, emitted = [], np.empty(light.shape)
    for p, projector in enumerate(setup.projectors):  # one after the other, for memory
        own = slice(p, p + 1)
        drive = drive_of_light(setup.responses[own], np.clip(light[:, own].astype(np.float64), 0, 1))[:, 0] * top
        drive += 0.5 if offset is None else offset[:, p]
        rounded = np.clip(np.floor(drive), 0, top).astype(kind)
        for channel, table in enumerate(setup.responses[p]):
            of_code = np.interp(np.arange(top + 1) / top, np.linspace(0, 1, len(table)), table)
            emitted[channel, p] = of_code[rounded[channel]]
        height, width = projector.raster
        codes.append(np.ascontiguousarray(rounded[:, :height, :width].transpose(1, 2, 0)))
    return codes, emitted
