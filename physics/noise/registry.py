"""The noise laws, and the one that a file describes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from infield import InfieldError
from infield.physics.noise.base import GaussianLaw, NoiseLaw
from infield.physics.noise.gaussian import CoilGaussianNoise, GaussianNoise
from infield.physics.noise.low_rank import LowRankGaussianNoise
from infield.physics.noise.poisson import PoissonGaussianNoise, PoissonNoise

__all__ = [
    "CoilGaussianNoise",
    "GaussianLaw",
    "GaussianNoise",
    "LowRankGaussianNoise",
    "NoiseLaw",
    "PoissonGaussianNoise",
    "PoissonNoise",
    "noise_from_json",
]

_FIELDS = {
    "gaussian": ("variance",),
    "coil-gaussian": ("covariance",),
    "poisson": ("gain",),
    "poisson-gaussian": ("gain", "variance"),
    "low-rank-gaussian": ("diagonal", "factors"),
}
_OPTIONAL = {"coil-gaussian": ("k_dimensions",)}


def noise_from_json(description: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> NoiseLaw:
    """The law that a file describes.

    Arguments:
        description: `{"law": "gaussian", "variance": 0.01}`, with the name of a variable in place of a number where
            each datum has its own variance; `{"law": "coil-gaussian", "covariance": NAME}`, and `"k_dimensions": 3` for
            several slices;
            `{"law": "low-rank-gaussian", "diagonal": 0.01, "factors": NAME}`, the diagonal a number or a name;
            `{"law": "poisson", "gain": 1.0}`; `{"law": "poisson-gaussian", "gain": 1.0, "variance": 0.01}`.
        arrays: Variables by name.

    Raises:
        InfieldError: If the law is unknown, an entry is missing, unknown or no valid noise level, or a variable is
            missing.
    """
    law = description.get("law")
    if not isinstance(law, str) or law not in _FIELDS:
        raise InfieldError(f"noise: found law {law!r}, expected one of {', '.join(_FIELDS)}")
    found, expected = sorted(set(description) - {"law", *_OPTIONAL.get(law, ())}), sorted(_FIELDS[law])
    if found != expected:
        raise InfieldError(f"noise '{law}': found the entries {found}, expected {expected}")

    def value(entry: str) -> Any:
        content = description[entry]
        if not isinstance(content, str):
            return content
        if content not in arrays:
            raise InfieldError(
                f"noise '{law}': its {entry} is the variable '{content}', found {sorted(arrays)}; add it"
            )
        return np.array(arrays[content])

    if law == "gaussian":
        return GaussianNoise(value("variance"))
    if law == "coil-gaussian":
        covariance = value("covariance")
        if not isinstance(covariance, np.ndarray):
            raise InfieldError(f"noise '{law}': found covariance {covariance!r}, expected the name of a variable")
        axes = description.get("k_dimensions", 2)
        if axes not in (2, 3):
            raise InfieldError(f"noise '{law}': found k_dimensions {axes!r}, expected 2, or 3 for several slices")
        return CoilGaussianNoise(torch.as_tensor(covariance), axes)
    if law == "low-rank-gaussian":
        factors = value("factors")
        if not isinstance(factors, np.ndarray):
            raise InfieldError(f"noise '{law}': found factors {factors!r}, expected the name of a variable")
        return LowRankGaussianNoise(value("diagonal"), torch.as_tensor(factors))
    if law == "poisson":
        return PoissonNoise(description["gain"])
    return PoissonGaussianNoise(description["gain"], value("variance"))
