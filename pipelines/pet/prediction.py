"""A predicted follow-up, as the file and the page hold it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from torch import Tensor

from infield.datasets.pet.baseline import Baseline
from infield.pipelines.pet.emulate_images import PredictedImages
from infield.posterior.pet.regions import RegionalChange


@dataclass(frozen=True)
class Prediction:
    """What is stored and shown.

    Arguments:
        baseline: What it starts from.
        years: To the follow-up.
        draws: SUVR, `(samples, regions)`.
        changes: Of every region, then of the composite where the bridge has one.
        composite: Which regions are in it, bool `(regions,)`.
        cautions: Statements in every output.
        centiloid: Slope and intercept of the bridge's own scale, or None.
        prior: Name of the bridge.
        images: Draws of the image, or None for regional means alone.
    """

    baseline: Baseline
    years: float
    draws: Tensor
    changes: tuple[RegionalChange, ...]
    composite: np.ndarray
    cautions: tuple[str, ...]
    centiloid: tuple[float, float] | None
    prior: str
    images: PredictedImages | None = None
