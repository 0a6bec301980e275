"""Noise models by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from infield.core.renamed import old_names
from infield.physics.noise.base import GaussianNoiseModel, NoiseModel, noise_from_json
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
