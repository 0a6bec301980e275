"""Noise models by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from infield.core import registry
from infield.core.errors import InfieldError
from infield.core.renamed import old_names
from infield.physics.noise.base import GaussianNoiseModel, NoiseDescription, NoiseModel
from infield.physics.noise.gaussian import GaussianNoise, UnknownGaussianNoise
from infield.physics.noise.low_rank import LowRankGaussianNoise
from infield.physics.noise.poisson import PoissonGaussianNoise, PoissonNoise
from infield.physics.noise.stack import StackedNoise

if not TYPE_CHECKING:
    __getattr__ = old_names(__name__)

__all__ = [
    "GaussianNoise",
    "GaussianNoiseModel",
    "LowRankGaussianNoise",
    "NoiseModel",
    "PoissonGaussianNoise",
    "PoissonNoise",
    "StackedNoise",
    "UnknownGaussianNoise",
    "noise_from_json",
]


def noise_from_json(description: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> NoiseModel:
    """Build the noise model that a file describes.

    Arguments:
        description: `{"law": "gaussian", "variance": 0.01}`, with the name of a variable in place of a number where
            each datum has its own variance, and `{"estimate": true}` where it is to be estimated;
            `{"law": "coil-gaussian", "covariance": NAME}`, and `"k_dimensions": 3` for several slices;
            `{"law": "low-rank-gaussian", "diagonal": 0.01, "factors": NAME}`, the diagonal a number or a name;
            `{"law": "stack", "laws": [...], "sizes": [...]}` of data that the operator `stack` made;
            `{"law": "poisson", "gain": 1.0}`; `{"law": "poisson-gaussian", "gain": 1.0, "variance": 0.01}`.
        arrays: Variables by name.

    Raises:
        InfieldError: If the law is unknown, an entry is missing, unknown or no valid noise level, or a variable is
            missing.
    """
    law = description.get("law")
    if not isinstance(law, str) or not registry.known("noise_models", law):
        expected = ", ".join(registry.names("noise_models"))
        raise InfieldError(where="noise", found=f"law {law!r}", expected=f"one of {expected}")
    entries = {entry: content for entry, content in description.items() if entry != "law"}
    model: NoiseModel = registry.load("noise_models", law).from_description(NoiseDescription(law, entries, arrays))
    return model
