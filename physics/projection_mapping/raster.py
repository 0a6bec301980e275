"""From camera pixels to a projector's raster: averages of what lands there, holes filled from coarser levels."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from infield.physics.projection_mapping.multi_projector import MultiProjector, bilinear_matrix

PRIOR_WEIGHT = 0.02
"""Weight of the coarser level beside the camera pixels that land on a raster's pixel."""


def to_raster(operator: MultiProjector, p: int, warp: np.ndarray, values: Tensor) -> Tensor:
    """Values at camera pixels on the raster of a projector; 0 where nothing of it is seen.

    Arguments:
        operator: Gives the raster.
        p: Number of the projector.
        warp: Of the projector, NaN where it is not seen, shape `(2, y, x)`.
        values: Shape `(channel, y, x)`.
    """
    shape = (operator.grid.shape[-2], operator.grid.shape[-1])
    matrix = bilinear_matrix(warp, shape, np.float64)
    flat = values.reshape(len(values), -1).double().numpy()
    rows = torch.from_numpy((matrix.T @ flat.T).T.copy()).reshape(1, len(values), *shape)
    weight = torch.from_numpy(np.asarray(matrix.sum(0)).reshape(1, 1, *shape))
    filled = _fill(rows, weight)[0]
    lit = torch.nn.functional.max_pool2d(weight, 5, stride=1, padding=2)[0] > 0
    return torch.where(lit, filled, 0.0)


def _fill(total: Tensor, weight: Tensor) -> Tensor:
    if min(total.shape[-2:]) <= 2 or bool((weight > 0.5).all()):
        return total / weight.clamp(min=1e-9)
    pool = lambda x: torch.nn.functional.avg_pool2d(x, 2, ceil_mode=True)  # noqa: E731
    coarse = _fill(pool(total), pool(weight))
    up = torch.nn.functional.interpolate(coarse, size=total.shape[-2:], mode="bilinear", align_corners=False)
    return (total + PRIOR_WEIGHT * up) / (weight + PRIOR_WEIGHT)
