"""A noise model: independent Laplace noise, p(y | z) = exp(-|y - z| / scale) / (2 scale)."""

import math
from dataclasses import dataclass

import torch

from infield.physics.noise.base import NoiseModel, positive_number, sum_observed


@dataclass(frozen=True)
class LaplaceNoise(NoiseModel):
    scale: float

    def __post_init__(self):
        object.__setattr__(self, "scale", positive_number(self.scale, "example-laplace", "scale"))

    @classmethod
    def from_description(cls, description):
        description.expect("scale")
        return cls(description.entries["scale"])

    def log_prob(self, y, z, observed=None):
        return sum_observed(-(y - z).abs() / self.scale - math.log(2 * self.scale), observed)

    def gradient(self, y, z):
        return torch.sign(y - z) / self.scale

    def chi_square(self, y, z, observed=None):
        return sum_observed((y - z) ** 2 / (2 * self.scale**2), observed)

    def sample(self, z, generator):
        u = torch.rand(z.shape, generator=generator, dtype=z.dtype) - 0.5
        return z - self.scale * torch.sign(u) * torch.log1p(-2 * u.abs())

    def to_json(self):
        return {"law": "example-laplace", "scale": self.scale}

    def arrays(self):
        return {}
