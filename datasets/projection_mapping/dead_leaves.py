r"""Pictures of dead leaves: opaque coloured shapes in layers (Matheron 1968; Lee, Mumford & Huang 2001).

For each picture: a palette; ellipses and rectangles with radii of density r^-3 between two bounds, so that the pictures
have no scale between these; colours of the palette with a little spread; shading, linear across each leaf and one
slow wave over the whole. Values are sRGB codes from 0 to 1. The pictures are periodic, so that borders are like any
other place; no photograph went into them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from infield.core.errors import InfieldError
from infield.core.grid import Grid

White = Callable[[tuple[int, ...]], Tensor]
"""Standard normal numbers, new ones each time: from a shape, a tensor `(batch, *shape)`, float64."""

CHANNELS = ("red", "green", "blue")
EDGE = 0.35
"""Width of a leaf's edge, in pixels: values of the logistic function of the distance over it."""


@dataclass(frozen=True)
class DeadLeaves:
    """The law of such pictures.

    Arguments:
        leaves: Number of leaves.
        smallest, largest: Radii, over the height of the picture.
        palette: Number of colours of a picture.
    """

    stored_name: ClassVar[str] = "DeadLeaves"

    leaves: int = 60
    smallest: float = 0.06
    largest: float = 0.45
    palette: int = 5

    def __post_init__(self) -> None:
        if self.leaves < 1 or self.palette < 1 or not 0 < self.smallest < self.largest <= 0.5:
            raise InfieldError(
                where="dead leaves",
                found=f"leaves {self.leaves}, palette {self.palette}, radii {self.smallest!r} to {self.largest!r}",
                expected="at least one leaf and colour, radii rising within 0 to 0.5 of the height",
            )

    def draw(self, grid: Grid, white: White) -> Tensor:
        """Pictures `(batch, 3, y, x)` of sRGB codes, float64.

        Arguments:
            grid: Two axes, y and x.
            white: Random numbers.
        """
        height, width = grid.shape
        y, x = (torch.arange(n, dtype=torch.float64) / height for n in (height, width))
        aspect = width / height
        colours = self._palette(white)
        batch = len(colours)
        picture = torch.zeros((batch, 3, height, width), dtype=torch.float64)
        left = torch.ones((batch, 1, height, width), dtype=torch.float64)
        for leaf in range(self.leaves + 1):  # the last lies below all others, everywhere
            cover, across = self._leaf(y, x, aspect, height, white)
            if leaf == self.leaves:
                cover = torch.ones_like(cover)
            chosen = (_uniform(white) * self.palette).long().clamp(max=self.palette - 1)
            colour = colours[torch.arange(batch), chosen] + 0.25 * white((3,))
            shade = colour[:, :, None, None] + (0.5 * white(()))[:, None, None, None] * across
            picture = picture + left * cover * torch.sigmoid(shade)
            left = left * (1 - cover)
        waves = torch.tensor([[0, 1], [1, 0], [1, 1], [1, -1]], dtype=torch.float64)
        k = waves[(4 * _uniform(white)).long().clamp(max=3)]
        phase = (
            2 * math.pi * (_uniform(white)[:, None, None] + k[:, :1, None] * y[:, None] + k[:, 1:, None] * x / aspect)
        )
        light = 1 + 0.15 * _uniform(white)[:, None, None] * torch.cos(phase)
        return (picture * light[:, None]).clamp(0, 1)

    def _palette(self, white: White) -> Tensor:
        """Logits of colours, `(batch, palette, 3)`: some pictures are paler than others."""
        saturation = torch.exp(-0.3 + 0.6 * white(()))[:, None, None]
        grey, hue = 1.3 * white((self.palette, 1)), white((self.palette, 3))
        return grey + saturation * (hue - hue.mean(-1, keepdim=True))

    def _leaf(self, y: Tensor, x: Tensor, aspect: float, height: int, white: White) -> tuple[Tensor, Tensor]:
        """Cover of one leaf, 0 to 1, and a coordinate across it, each `(batch, 1, y, x)`."""
        u, low, high = _uniform(white), self.smallest**-2, self.largest**-2
        radius = (low - u * (low - high)) ** -0.5
        stretch = torch.exp(0.35 * white(()))
        angle, kind = 2 * math.pi * _uniform(white), _uniform(white)
        wrap = lambda a, period: torch.remainder(a + period / 2, period) - period / 2  # noqa: E731
        dy = wrap(y - _uniform(white)[:, None], 1.0)[:, :, None]
        dx = wrap(x - aspect * _uniform(white)[:, None], aspect)[:, None, :]
        cos, sin, s, r = (a[:, None, None] for a in (angle.cos(), angle.sin(), stretch, radius))
        along, across = (cos * dy + sin * dx) * s / r, (cos * dx - sin * dy) / s / r
        ellipse = torch.hypot(along, across)
        rectangle = 1.2 * torch.maximum(along.abs(), across.abs())
        distance = (1 - torch.where(kind[:, None, None] < 0.6, ellipse, rectangle)) * r * height
        direction = 2 * math.pi * _uniform(white)[:, None, None]
        tilt = direction.cos() * along + direction.sin() * across
        return torch.sigmoid(distance / EDGE)[:, None], tilt.clamp(-1.5, 1.5)[:, None]


def _uniform(white: White) -> Tensor:
    return torch.special.ndtr(white(()))
