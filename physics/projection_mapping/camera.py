"""The camera beside the operator: shot and read noise, coding, quantisation and saturation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from infield.physics.projection_mapping.colour import decode, encode


@dataclass(frozen=True)
class Camera:
    """What a camera makes of light.

    Arguments:
        full_well: Electrons at full scale.
        read_noise: Standard deviation, in electrons.
        bits: Of the code.
        srgb: Whether values are sRGB-coded; else they are proportional to light.
    """

    full_well: float = 8000.0
    read_noise: float = 5.0
    bits: int = 8
    srgb: bool = True

    def expose(self, light: Tensor, generator: Generator) -> Tensor:
        """One frame: codes from 0 to `2**bits - 1`, as float64, of linear light with 1 at full scale."""
        electrons = torch.poisson(light.double().clamp(min=0) * self.full_well, generator=generator)
        noise = torch.randn(light.shape, generator=generator, dtype=torch.float64)
        seen = ((electrons + self.read_noise * noise) / self.full_well).clamp(0, 1)
        top = 2**self.bits - 1
        return ((encode(seen) if self.srgb else seen) * top).round()

    def light(self, codes: Tensor) -> Tensor:
        """Linear light of codes."""
        values = codes.double() / (2**self.bits - 1)
        return decode(values) if self.srgb else values

    def variance(self, light: Tensor) -> Tensor:
        """Variance of the light that a frame gives, without quantisation."""
        return light.clamp(min=0) / self.full_well + (self.read_noise / self.full_well) ** 2
