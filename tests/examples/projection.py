"""Small scenes of projectors, rendered once for all tests."""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

from infield.datasets.projection_mapping.renderer import Scene
from infield.physics.projection_mapping.colour import encode


@cache
def scene(surface="plane", texture="mild", projectors=2, height=36, **settings):
    return Scene(surface, texture, projectors, height, **settings)


def picture(shape, low=0.05, high=0.16, seed=0):
    """A smooth picture with edges, in linear light."""
    y, x = np.meshgrid(*(np.linspace(0, 1, n) for n in shape), indexing="ij")
    rng = np.random.default_rng(seed)
    image = np.stack([0.5 + 0.3 * np.sin(rng.uniform(4, 12) * x + rng.uniform(4, 12) * y) for _ in range(3)])
    image += 0.2 * ((x - 0.5) ** 2 + (y - 0.5) ** 2 < 0.06)
    return low + (high - low) * image.clip(0, 1)


def shown(scene, codes):
    """What the renderer shows for drive codes of 8 bits."""
    return scene.light([c.transpose(2, 0, 1) / 255 for c in codes])


def psnr(a, b, inside):
    code = [encode(torch.from_numpy(np.ascontiguousarray(x))).numpy().clip(0, 1) for x in (a, b)]
    return float(-10 * np.log10(((code[0] - code[1])[:, inside] ** 2).mean()))
