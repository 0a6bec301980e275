"""Regions of Infield's own in MNI152, for the synthetic cohort: every place belongs to the nearest of 26 points.

They are no atlas, and none is behind them: 13 points in mm on either side, whose names describe where they lie.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

SEEDS: tuple[tuple[str, int, tuple[float, float, float]], ...] = (
    ("precuneus", 0, (8, -60, 40)),
    ("posterior cingulate", 0, (8, -45, 24)),
    ("orbitofrontal", 0, (18, 40, -14)),
    ("medial frontal", 0, (8, 50, 10)),
    ("lateral frontal", 1, (40, 32, 24)),
    ("lateral parietal", 1, (44, -54, 42)),
    ("lateral temporal", 1, (56, -28, -8)),
    ("insula", 1, (38, 4, 2)),
    ("occipital", 2, (18, -88, 6)),
    ("sensorimotor", 2, (38, -20, 52)),
    ("medial temporal", 2, (26, -16, -20)),
    ("thalamus", -1, (11, -18, 8)),
    ("cerebellum", -1, (24, -62, -36)),
)
"""Name, group (`amyloid_law.ONSETS`; -1 accumulates nothing) and the point on the right side, mm of MNI152."""

NAMES = tuple(f"{name}, {side}" for name, _, _ in SEEDS for side in ("left", "right"))
GROUPS = tuple(group for _, group, _ in SEEDS for _ in ("left", "right"))


def nearest_region(places: Tensor) -> Tensor:
    """Index of the region that each place belongs to.

    Arguments:
        places: `(*space, 3)`, x to the right, y to the front, z up, mm of MNI152.

    Returns:
        Integers of shape `space`.
    """
    points = torch.tensor([(side * x, y, z) for _, _, (x, y, z) in SEEDS for side in (-1, 1)], dtype=places.dtype)
    return torch.cdist(places.reshape(-1, 3), points).argmin(1).reshape(places.shape[:-1])


@dataclass(frozen=True)
class RegionWeights:
    """Weights of the mean over each region, `(regions, *space)`, each of sum 1; 0 where a region has no voxel."""

    weights: Tensor

    @classmethod
    def from_grey_matter(cls, grey: Tensor, places: Tensor) -> RegionWeights:
        """By the share of grey matter, where it is above a third.

        Arguments:
            grey: Share of grey matter, `space`.
            places: `(*space, 3)`, mm.
        """
        masks = torch.nn.functional.one_hot(nearest_region(places), len(NAMES)).movedim(-1, 0).to(grey)
        weights = masks * grey * (grey > 1 / 3)
        total = weights.flatten(1).sum(1)
        return cls(weights / total.clamp_min(1e-12).reshape(-1, *[1] * grey.ndim))

    def mean(self, image: Tensor) -> Tensor:
        """Means of images `(batch, *space)`, `(batch, regions)`."""
        return image.flatten(1) @ self.weights.to(image).flatten(1).T


def volume_places(z: np.ndarray, y: np.ndarray, x: np.ndarray) -> Tensor:
    """Places of a grid, `(z, y, x, 3)` with the coordinates x, y, z last, mm."""
    axes = [torch.tensor(np.asarray(c, float)) for c in (z, y, x)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")[::-1], dim=-1)
