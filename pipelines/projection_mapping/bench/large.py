"""One large compensation in a process of its own: `python -m ... PIXELS` prints its CPU seconds and peak memory."""

from __future__ import annotations

import json
import resource
import sys
import time

import numpy as np

from infield.physics.projection_mapping.compensate import compensate
from infield.physics.projection_mapping.gamut import nearest
from infield.physics.projection_mapping.setup import Projector, Setup

PROJECTORS = 4
ITERATIONS = 2


def made_setup(pixels: int) -> Setup:
    """Four projectors with smooth warps, defocus and a mixing of its own at each pixel."""
    height = round((pixels * 3 / 4) ** 0.5)
    shape = (height, height * 4 // 3)
    rng = np.random.default_rng(0)
    y, x = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in shape), indexing="ij")
    raster = (height * 9 // 8, shape[1] * 9 // 8)
    projectors = []
    for p in range(PROJECTORS):
        warp = np.stack([1.05 * y + 0.02 * p * x + 2, 1.04 * x + 0.01 * p * y + 3])
        inside = (warp[0] < raster[0] - 1) & (warp[1] < raster[1] - 1)
        mixing = (np.eye(3, dtype=np.float32) + 0.1)[:, :, None, None] * rng.uniform(0.05, 0.3, (1, 3, *shape)).astype(
            np.float32
        )
        table = np.stack([np.linspace(0, 1, 257) ** 1.7] * 3)
        warp = np.where(inside, warp, np.nan).astype(np.float32)
        projectors.append(Projector(f"projector_{p}", raster, warp, mixing, table, 0.8))
    return Setup(np.full((3, *shape), 0.01, np.float32), tuple(projectors))


def main(pixels: int) -> None:
    nearest(np.ones((1, 3, 3)), np.ones((1, 3)))  # compiled
    setup = made_setup(pixels)
    y, x = np.meshgrid(*(np.linspace(0, 1, n) for n in setup.shape), indexing="ij")
    target = (0.2 + 0.5 * np.stack([x, y, 0.5 * (1 + np.sin(20 * x * y))])).astype(np.float32)
    began = time.process_time()
    compensate(setup, target, iterations=0)
    pixelwise = time.process_time() - began
    began = time.process_time()
    compensate(setup, target, iterations=ITERATIONS)
    iteration = (time.process_time() - began - pixelwise) / (ITERATIONS + 1)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    figures = {"pixels": setup.shape[0] * setup.shape[1], "pixelwise": pixelwise, "iteration": iteration, "peak": peak}
    print(json.dumps(figures))


if __name__ == "__main__":
    main(int(sys.argv[1]))
